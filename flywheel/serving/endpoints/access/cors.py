"""Lets pages of listed origins send events from the browser, and nothing else."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.serving.endpoints.access.roles import COLLECTED

_PREFLIGHT_SECONDS = "600"


class CollectingOrigins:
    """ASGI middleware before the guard: answers preflights for `COLLECTED`, and marks answers as readable.

    It lets nobody in: the request that follows needs its token like any other.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in COLLECTED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if origin.lower() not in self._origins:
            await self._app(scope, receive, send)
            return
        readable = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        if scope["method"] == "OPTIONS":
            readable |= {
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "authorization, content-type",
                "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            }
            await Response(status_code=204, headers=readable)(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in readable.items():
                    sent[name] = value
            await send(message)

        await self._app(scope, receive, marked)
