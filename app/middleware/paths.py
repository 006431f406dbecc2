"""Accepts two other forms of the API's paths: with a trailing slash, and with the prefix
`/scheduler` of `/scheduler/jobs`.

The path is rewritten and not redirected, because many clients drop the body or the Authorization
header when they follow a redirect.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

_ALIAS = "/scheduler/jobs"
_ALIASED_PREFIX = "/scheduler"


class PathRewriter:
    """Removes a trailing slash and the prefix `/scheduler` of `/scheduler/jobs`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            path = _rewrite(scope["path"], root)
            if path != scope["path"]:
                raw_path = _rewrite(scope.get("raw_path", b"").decode("latin-1"), root)
                scope = {**scope, "path": path, "raw_path": raw_path.encode("latin-1")}
        await self._app(scope, receive, send)


def _rewrite(path: str, root: str) -> str:
    prefix = root if root and path.startswith(f"{root}/") else ""
    rest = path[len(prefix) :]
    if len(rest) > 1 and rest.endswith("/"):
        rest = rest[:-1]
    if rest == _ALIAS or rest.startswith(f"{_ALIAS}/"):
        rest = rest[len(_ALIASED_PREFIX) :]
    return prefix + rest
