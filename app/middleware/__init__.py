"""Pure ASGI middleware: request ids, body limits, security headers, path rewriting."""
