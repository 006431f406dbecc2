"""Pure ASGI middleware: request ids, body limits, headers."""
