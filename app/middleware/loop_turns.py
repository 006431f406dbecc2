"""Passes the turns of the event loop to the code that handles a request."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.addresses import group_of
from app.http_server.connections import CONNECTIONS
from app.loop_turns import set_loop_turns


class RequestTurns:
    """Lets `wait_for_loop_turn` wait for a turn of the request's client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connections = scope.get("state", {}).get(CONNECTIONS)
        if scope["type"] != "http" or connections is None:
            await self._app(scope, receive, send)
            return
        client = scope.get("client") or ("", 0)
        with set_loop_turns(connections.turns, group_of(client[0])):
            await self._app(scope, receive, send)
