"""Pure ASGI middleware: request ids, client addresses, deadlines, limits of bodies,
security headers, paths, cookies, turns."""
