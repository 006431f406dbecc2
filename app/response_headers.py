"""The headers of every response, and of those that must not be stored."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""They stop browsers from guessing content types, framing pages, and sending the page's address to
other sites."""

NO_STORE = {"Cache-Control": "no-store"}
