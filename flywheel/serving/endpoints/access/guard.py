"""Decides who may use the API: holders of a token of the right role, or without any token only this machine.

Without a token a browser on this machine is the one way in for strangers. So pages of other origins are refused, and
host names that are not this machine's (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.serving.endpoints.access.login import signed_in
from flywheel.serving.endpoints.access.rates import CALLER, WrongTokens, address_of, too_often
from flywheel.serving.endpoints.access.roles import COLLECTED, METRICS, OPEN_PATHS, role_for
from flywheel.serving.endpoints.access.tokens import Caller, Tokens
from flywheel.serving.endpoints.problems import SEALED, Problem
from flywheel.settings.load import ConfigError, Serving

_log = logging.getLogger("flywheel.serving")
_WRONG_SECONDS = 0.2  # that an answer to a wrong token takes at least


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
    """Refuse to serve other machines without a token, or with one that can be guessed.

    Raises:
        ConfigError: the address is not loopback and no token is set, or a weak one; the message names both fixes.
    """
    tokens = Tokens(settings).now()
    if is_loopback(settings.host):
        return
    if not tokens:
        raise ConfigError(
            f"serving.host {settings.host!r} is reachable from other machines, which needs a token: set "
            "FLYWHEEL__SERVING__TOKEN to a long random string, or set serving.host to 127.0.0.1"
        )
    weak = [token.caller.name for token in tokens if token.weak]
    if weak:
        raise ConfigError(
            f"the token of {', '.join(weak)} can be guessed, and serving.host {settings.host!r} is reachable from "
            "other machines: take 16 random characters or more, as `openssl rand -hex 24` gives, or set serving.host "
            "to 127.0.0.1"
        )


class Guard:
    """ASGI middleware: refuses before a body is read. All but `OPEN_PATHS` need a token of their role if one is set."""

    def __init__(self, app: ASGIApp, tokens: Tokens, wrong: WrongTokens, wall_seconds: Callable[[], float]) -> None:
        self._app = app
        self._tokens, self._wrong, self._wall = tokens, wrong, wall_seconds

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
        problem = await self._by_token(scope, headers) if self._tokens.now() else _by_origin(headers)
        if problem is None:
            await self._app(scope, receive, sealed)
        else:
            await problem.response()(scope, receive, sealed)

    async def _by_token(self, scope: Scope, headers: Headers) -> Problem | None:
        path, method = scope["path"], scope["method"]
        if path in OPEN_PATHS or (path == METRICS and is_loopback(address_of(scope))):
            return None
        who = await self._who(scope, headers)
        if isinstance(who, Problem):
            return who
        role = role_for(method, path)
        if role not in who.roles:
            return Problem(403, "wrong_role", f"the token {who.name!r} lacks the role {role!r}")
        scope[CALLER] = who
        return None

    async def _who(self, scope: Scope, headers: Headers) -> Caller | Problem:
        given = _bearer(headers) or _of_beacon(scope)
        if given is None:
            signed = signed_in(self._tokens, scope["method"], headers, self._wall())
            if signed is not None:
                return signed
            return _unauthorised("send a token as `Authorization: Bearer TOKEN`")
        address = address_of(scope)
        caller = self._tokens.of(given)
        wait = self._wrong.barred(address)
        # barred, a stranger's right token and wrong one get the same answer: it must not learn which it sent
        if wait and (caller is None or not self._wrong.known(address, caller.name)):
            return too_often(wait, "nothing: the tokens that came from this address were wrong")
        if caller is None:
            self._wrong.wrong(address)
            _log.warning("a wrong token from %s, for %s", address, scope["path"][:80].encode("unicode_escape").decode())
            await asyncio.sleep(_WRONG_SECONDS)
            return _unauthorised("this token is none of this installation's")
        self._wrong.right(address, caller.name)
        return caller


def _bearer(headers: Headers) -> bytes | None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip().encode("latin-1") if scheme.lower() == "bearer" and given.strip() else None


def _of_beacon(scope: Scope) -> bytes | None:
    """A browser's `sendBeacon` can set no header: to collect, and only that, the token may stand in the address."""
    if scope["path"] not in COLLECTED or not scope["query_string"]:
        return None
    values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10).get("token")
    return values[0].encode() if values else None


def _unauthorised(message: str) -> Problem:
    return Problem(401, "unauthorised", message, {"WWW-Authenticate": "Bearer"})


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
    foreign_origin = origin is not None and _place_of(origin) != host.lower()
    if foreign_origin or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return Problem(403, "foreign_origin", "web pages of other origins may not use this API; set serving.token")
    return None


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
