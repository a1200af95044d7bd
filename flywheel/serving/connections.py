"""Bounds what a connection may cost: how many there are, how long one may say nothing, and how long it may not read.

Where there are as many as may be, the one that has kept us waiting longest makes room for a new one. So idle
connections shut nobody out, however many somebody opens.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_log = logging.getLogger("flywheel.serving")
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\n"
    b'Content-Length: 85\r\n\r\n{"error": {"message": "all connections are in use; come back later", "code": "full"}}'
)
# beside connections: the database, logs, indexes, the broker
_OTHER_FILES = 512


@dataclass(slots=True)
class Room:
    """How many connections there may be, and those there are: `waiting` for a request, the longest first."""

    connections: int
    header_seconds: float
    idle_seconds: float
    stall_seconds: float
    open: int = 0
    waiting: dict[BoundedProtocol, None] = field(default_factory=dict)

    def admit(self) -> bool:
        """Make room for one more. False if everybody there is being answered."""
        if self.open >= self.connections:
            longest = next(iter(self.waiting), None)
            if longest is None:
                return False
            longest.drop()
        self.open += 1
        return True


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, within the bounds of `room`."""

    room: Room

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._admitted = False
        self._seen: object = None  # the request that the timer no longer waits for
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if not self.room.admit():
            transport.write(_FULL)
            transport.close()
            return
        self._admitted = True
        self._wait(self.room.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        super().data_received(data)
        if self.cycle is not self._seen:
            self._seen = self.cycle
            self._cancel_timer()
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self.room.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()
        # a request that was sent ahead may be in work already
        if self.cycle is answered and self._admitted:
            self._wait(self.room.idle_seconds + self.room.header_seconds)
        else:
            self._seen = self.cycle

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.room.stall_seconds, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def drop(self) -> None:
        """End the connection at once."""
        self._leave()
        self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._cancel_timer()
        self.room.waiting.pop(self, None)
        self.room.waiting[self] = None
        self._late = self.loop.call_later(seconds, self.drop)

    def _leave(self) -> None:
        if self._admitted:
            self._admitted = False
            self.room.open -= 1
        self.room.waiting.pop(self, None)
        self._cancel_timer()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _cancel_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def bounded(room: Room) -> type[BoundedProtocol]:
    """The protocol for one server, whose connections share `room`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"room": room})


def allow_files(connections: int) -> None:
    """Ask the system for as many open files as that many connections need; warn where it gives fewer."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < wanted:
        _log.warning("the system allows %d open files; raise `ulimit -n` or lower limits.connections", granted)
