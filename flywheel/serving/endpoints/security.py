"""Decides who may use the API: holders of the bearer token if one is set, otherwise only this machine.

Without a token a browser on this machine is the one way in for strangers. So pages of other origins are refused, and
host names that are not this machine's (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.serving.endpoints.problems import SEALED, Problem
from flywheel.settings.load import ConfigError, Serving

# orchestrators and scrapers send no token; the page at / holds no data of its own
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/metrics"})


def is_loopback(host: str) -> bool:
    """Whether this name or address can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_binding(settings: Serving) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        ConfigError: the address is not loopback and no token is set; the message names both fixes.
    """
    if not (settings.token or "").strip() and not is_loopback(settings.host):
        raise ConfigError(
            f"serving.host {settings.host!r} is reachable from other machines, which needs a token: set "
            "FLYWHEEL__SERVING__TOKEN to a long random string, or set serving.host to 127.0.0.1"
        )


class Guard:
    """ASGI middleware: refuses before a body is read. All but `OPEN_PATHS` need the token if one is set."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = (token or "").strip().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SEALED.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        problem = self._by_token(scope["path"], headers) if self._token else _by_origin(headers)
        if problem is None:
            await self._app(scope, receive, sealed)
        else:
            await problem.response()(scope, receive, sealed)

    def _by_token(self, path: str, headers: Headers) -> Problem | None:
        if path in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # compared in constant time, so that timing reveals nothing of the token
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            return None
        return Problem(
            401,
            "unauthorised",
            "send the token of serving.token as `Authorization: Bearer TOKEN`",
            {"WWW-Authenticate": "Bearer"},
        )


def _by_origin(headers: Headers) -> Problem | None:
    host = headers.get("host", "")
    if not is_loopback(_name_of(f"//{host}")):
        return Problem(
            403,
            "foreign_host",
            "without a token this API answers to loopback names alone, such as 127.0.0.1 and localhost; "
            "set serving.token to reach it by another name",
        )
    origin = headers.get("origin")
    foreign_origin = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if foreign_origin or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return Problem(403, "foreign_origin", "web pages of other origins may not use this API; set serving.token")
    return None


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
