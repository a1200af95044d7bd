"""Signs a person in at the page: a token becomes a cookie of its roles, for a working day.

The cookie is made of the token and of nothing that is stored: it ends with its time, or when the token is taken away.
A second value goes with every request that changes something. A page of another origin can make a browser send the
cookie, but cannot know that value.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.access.rates import WrongTokens, address_of, too_often
from flywheel.serving.endpoints.access.tokens import Caller, Token, Tokens, sealed
from flywheel.serving.endpoints.problems import Problem

COOKIE, FORM = "flywheel", "flywheel-form"
FORM_HEADER = "x-flywheel-form"
HOURS = 8
_FORM_TYPE = "application/x-www-form-urlencoded"
_MOST_BYTES = 4_096
_SAFE = ("GET", "HEAD", "OPTIONS")


def cookies(token: Token, now_seconds: float) -> tuple[str, str]:
    """The cookie's value, and the value that forms carry."""
    until = str(int(now_seconds) + HOURS * 3_600)
    value = f"{token.caller.name}.{until}.{sealed(token, 'login', until)}"
    return value, sealed(token, "form", value)


def signed_in(tokens: Tokens, method: str, headers: Headers, now_seconds: float) -> Caller | Problem | None:
    """Who a cookie belongs to; None without one, and a refusal where a change lacks the form's value."""
    value = _cookie(headers)
    parts = value.rsplit(".", 2)
    if len(parts) != 3 or not (parts[1].isascii() and parts[1].isdigit()) or int(parts[1]) < now_seconds:
        return None
    name, until, seal = parts
    for token in tokens.now():
        if token.caller.name != name or not _same(sealed(token, "login", until), seal):
            continue
        if method not in _SAFE and not _same(sealed(token, "form", value), headers.get(FORM_HEADER, "")):
            message = f"a change from the page needs the header {FORM_HEADER}, with the value of the cookie {FORM}"
            return Problem(403, "no_form_value", message)
        return token.caller
    return None


class Login:
    """`POST /login` and `POST /logout`, as JSON or as a form."""

    def __init__(self, tokens: Tokens, wrong: WrongTokens, wall_seconds: Callable[[], float]) -> None:
        self._tokens, self._wrong, self._wall = tokens, wrong, wall_seconds

    async def login(self, request: Request) -> Response:
        """Turn a token into cookies. A wrong one counts as one on any other path."""
        address = address_of(request.scope)
        if wait := self._wrong.barred(address):
            raise too_often(wait, "the number of right tokens")
        kind = bodies.content_type(request, (bodies.JSON, _FORM_TYPE))
        given = _given(await bodies.read(request, _MOST_BYTES), kind)
        found = next((token for token in self._tokens.now() if _same(token.secret, given)), None)
        if found is None:
            self._wrong.wrong(address)
            raise Problem(401, "unauthorised", "no token of this installation reads so")
        value, form = cookies(found, self._wall())
        answer: Response
        if kind == _FORM_TYPE:
            answer = RedirectResponse("/", status_code=303)
        else:
            answer = JSONResponse({"name": found.caller.name, "roles": sorted(found.caller.roles), "form": form})
        secure = request.url.scheme == "https"
        for name, content, hidden in ((COOKIE, value, True), (FORM, form, False)):
            answer.set_cookie(
                name, content, max_age=HOURS * 3_600, path="/", secure=secure, httponly=hidden, samesite="strict"
            )
        return answer

    async def logout(self, _: Request) -> Response:
        """Forget the cookies in this browser."""
        answer = JSONResponse({"signed_in": False})
        for name in (COOKIE, FORM):
            answer.delete_cookie(name, path="/", samesite="strict")
        return answer


def _given(body: bytes, kind: str) -> bytes:
    if kind == _FORM_TYPE:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
        return fields.get("token", [""])[0].strip().encode()
    values = bodies.decode(body)
    token = values.get("token") if isinstance(values, dict) else None
    if not isinstance(token, str):
        raise Problem(400, "invalid_request", 'send {"token": "…"}')
    return token.strip().encode("utf-8", "surrogatepass")


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(one: str | bytes, other: str | bytes) -> bool:
    left, right = (text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text for text in (one, other))
    return hmac.compare_digest(left, right)
