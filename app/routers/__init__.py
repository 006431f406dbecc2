"""HTTP: a route parses, authorises, calls one service method and returns."""
