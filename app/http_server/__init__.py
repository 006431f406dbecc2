"""The HTTP server: uvicorn's protocol with limits for clients that nobody has authenticated."""
