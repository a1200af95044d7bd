"""Bounds how often one caller asks: by its token and by its address, with buckets that refill (429, Retry-After).

Whoever sends wrong tokens is slowed down by address. A token that an address has used rightly stays good there, so
that a guesser beside a product does not shut it out.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from flywheel.serving.endpoints.problems import Problem

# where guards leave the name of the token that a request came with
CALLER = "flywheel.caller"
_MOST_KEPT = 10_000  # callers remembered; the one unseen longest is forgotten first
_BURST_SECONDS = 2.0
_WRONG_AT_ONCE, _WRONG_PER_SECOND = 10.0, 0.1
_UNMETERED = frozenset({"/healthz", "/readyz"})  # an orchestrator that gets no answer ends the daemon


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Buckets:
    """Token buckets by key: `burst` at once, then `per_second`. Bounded in number."""

    def __init__(self, per_second: float, burst: float, seconds: Callable[[], float]) -> None:
        self._per_second, self._burst, self._seconds = per_second, burst, seconds
        self._kept: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, amount: float = 1.0) -> float:
        """Take so many, or a whole bucket. Returns 0, or the seconds until they are there: then nothing was taken."""
        bucket = self._refilled(key)
        wanted = min(amount, self._burst)
        if bucket.left >= wanted:
            bucket.left -= wanted
            return 0.0
        return (wanted - bucket.left) / self._per_second

    def wait(self, key: str) -> float:
        """The seconds until one could be taken; 0 if now."""
        bucket = self._kept.get(key)
        if bucket is None:
            return 0.0
        left = min(self._burst, bucket.left + (self._seconds() - bucket.at) * self._per_second)
        return max(0.0, (1 - left) / self._per_second)

    def _refilled(self, key: str) -> _Bucket:
        now = self._seconds()
        bucket = self._kept.get(key)
        if bucket is None:
            bucket = self._kept[key] = _Bucket(self._burst, now)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return bucket
        self._kept.move_to_end(key)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket


class Rates:
    """ASGI middleware behind the guard: so many requests a second by token, and by address."""

    def __init__(self, app: ASGIApp, per_second: float, seconds: Callable[[], float]) -> None:
        self._app = app
        self._buckets = Buckets(per_second, max(1.0, per_second * _BURST_SECONDS), seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _UNMETERED:
            waits = [self._buckets.take(f"address {address_of(scope)}")]
            caller = scope.get(CALLER)
            if caller is not None:
                waits.append(self._buckets.take(f"token {caller.name}"))
            if max(waits) > 0:
                await too_often(max(waits), "limits.requests_per_second").response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class WrongTokens:
    """Remembers by address how many wrong tokens came, and which right ones."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._wrong = Buckets(_WRONG_PER_SECOND, _WRONG_AT_ONCE, seconds)
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def barred(self, address: str) -> float:
        """Seconds until this address may try a token that it has not used rightly before; 0 if now."""
        return self._wrong.wait(address)

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        self._wrong.take(address)

    def right(self, address: str, name: str) -> None:
        """Remember a right token."""
        self._right[address, name] = None
        self._right.move_to_end((address, name))
        if len(self._right) > _MOST_KEPT:
            self._right.popitem(last=False)

    def known(self, address: str, name: str) -> bool:
        """Whether this token was right from this address before."""
        return (address, name) in self._right


class RecordRates:
    """How many records one token, and one address, sends in a second."""

    def __init__(self, per_second: float, seconds: Callable[[], float]) -> None:
        self._buckets = Buckets(per_second, per_second * _BURST_SECONDS, seconds)
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()

    def admit(self, scope: Scope) -> None:
        """Before a body is read: whoever was told to come back later, and did not wait, costs nothing more.

        Raises:
            Problem: 429 that says when to come back.
        """
        now = self._seconds()
        wait = max(self._until.get(key, now) for key in _keys(scope)) - now
        if wait > 0:
            raise too_often(wait, "limits.records_per_second")

    def check(self, scope: Scope, records: int) -> None:
        """
        Raises:
            Problem: 429 that says when to come back; then none of them is taken.
        """
        waits = {key: self._buckets.take(key, records) for key in _keys(scope)}
        wait = max(waits.values())
        if wait > 0:
            for key, seconds in waits.items():
                if seconds > 0:
                    self._until[key] = self._seconds() + seconds
                    self._until.move_to_end(key)
            while len(self._until) > _MOST_KEPT:
                self._until.popitem(last=False)
            raise too_often(wait, "limits.records_per_second")


def _keys(scope: Scope) -> list[str]:
    caller = scope.get(CALLER)
    return [f"address {address_of(scope)}", *([f"token {caller.name}"] if caller else [])]


def address_of(scope: Scope) -> str:
    """The client's address; "" where the server knows none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def too_often(seconds: float, setting: str) -> Problem:
    """429 that says when to come back."""
    message = f"too many requests; come back later, or raise {setting}"
    return Problem(429, "too_many_requests", message, {"Retry-After": str(max(1, math.ceil(seconds)))})
