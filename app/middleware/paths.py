"""Paths that people's existing calls use: a trailing slash, and `/scheduler/jobs` for `/jobs`.

The path is rewritten, not redirected: a redirect would lose the body or the Authorization header
in many clients.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

_ALIAS = "/scheduler/jobs"
_ALIASED_PREFIX = "/scheduler"


class Paths:
    """Rewrites aliases to the path that the routes know."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            path = _rewritten(scope["path"], root)
            if path != scope["path"]:
                raw_path = _rewritten(scope.get("raw_path", b"").decode("latin-1"), root)
                scope = {**scope, "path": path, "raw_path": raw_path.encode("latin-1")}
        await self._app(scope, receive, send)


def _rewritten(path: str, root: str) -> str:
    prefix = root if root and path.startswith(f"{root}/") else ""
    rest = path[len(prefix) :]
    if len(rest) > 1 and rest.endswith("/"):
        rest = rest[:-1]
    if rest == _ALIAS or rest.startswith(f"{_ALIAS}/"):
        rest = rest[len(_ALIASED_PREFIX) :]
    return prefix + rest
