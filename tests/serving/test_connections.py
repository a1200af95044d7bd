"""What connections may cost: their number, their silence, and their reading."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from flywheel.serving.server import HttpServer
from flywheel.settings.load import Limits


def app() -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def slow(_: object) -> PlainTextResponse:
        await asyncio.sleep(3)
        return PlainTextResponse("done")

    async def endless(_: object) -> StreamingResponse:
        async def parts() -> object:
            while True:
                yield b"x" * 65_536

        return StreamingResponse(parts())  # type: ignore[arg-type]

    routes = [Route("/", hello, methods=["GET", "POST"]), Route("/slow", slow), Route("/endless", endless)]
    return Starlette(routes=routes)


@contextmanager
def served(**limits: float) -> Iterator[HttpServer]:
    with HttpServer(app(), "127.0.0.1", 0, Limits.model_validate(limits)) as server:
        yield server


def connect(server: HttpServer, sent: bytes = b"") -> socket.socket:
    url = httpx.URL(server.url)
    connection = socket.create_connection((url.host, url.port or 0), 10)
    connection.sendall(sent)
    return connection


def ended(connection: socket.socket) -> bool:
    """Whether the server closed it; waits as long as the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_idle_connections_shut_nobody_out() -> None:
    """With three times as many silent connections as may be, a request is answered; the oldest of them were ended."""
    with served(connections=20) as server, ExitStack() as stack:
        silent = [stack.enter_context(connect(server)) for _ in range(60)]
        assert httpx.get(server.url, trust_env=False).text == "0"
        assert ended(silent[0])
        silent[-1].settimeout(0.2)
        assert not ended(silent[-1])


def test_connections_that_never_finish_a_request_make_room_too() -> None:
    """A head or a body that does not end holds its place only as long as nobody else wants it."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfew"
    with served(connections=20) as server, ExitStack() as stack:
        for number in range(60):
            stack.enter_context(connect(server, head if number % 2 else b"GET / HTT"))
        assert httpx.get(server.url, trust_env=False).text == "0"


def test_a_head_that_does_not_arrive_in_time_ends_its_connection() -> None:
    """Byte after byte is not enough: the time counts from the beginning, on a fresh connection and on a used one."""
    with served(header_seconds=0.5, idle_seconds=1) as server:
        for before in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            with connect(server, before) as connection:
                connection.settimeout(0.05)
                began = time.monotonic()
                open_still = True
                while open_still and time.monotonic() - began < 10:
                    try:
                        connection.sendall(b"G")
                        open_still = not (before == b"" and ended(connection)) and connection.fileno() >= 0
                        time.sleep(0.02)
                    except ConnectionError:
                        open_still = False
                assert not open_still
                assert time.monotonic() - began < 5


def test_those_who_are_being_answered_keep_their_connection() -> None:
    """Where everybody is being answered, one more is told to come back, and nobody is cut off."""
    with served(connections=2) as server:
        answers: list[str] = []
        url = f"{server.url}/slow"
        askers = [
            threading.Thread(target=lambda: answers.append(httpx.get(url, trust_env=False, timeout=20).text))
            for _ in range(2)
        ]
        for asker in askers:
            asker.start()
        time.sleep(1)
        refused = httpx.get(server.url, trust_env=False)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "full")
        assert int(refused.headers["retry-after"]) > 0
        for asker in askers:
            asker.join()
        assert answers == ["done", "done"]
        assert httpx.get(server.url, trust_env=False).status_code == 200


def test_a_client_that_reads_nothing_is_left() -> None:
    """An answer that nobody takes ends its connection after `stall_seconds`."""
    with (
        served(stall_seconds=0.5) as server,
        connect(server, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n") as connection,
    ):
        time.sleep(2)
        connection.settimeout(5)
        received = 0
        try:
            while part := connection.recv(1 << 20):
                received += len(part)
        except ConnectionError:
            pass
        assert received < 1 << 28


def test_a_used_connection_is_used_again() -> None:
    """Bounds do not end what behaves: many requests go over one connection."""
    with served(connections=2) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        for _ in range(20):
            assert http.post("/", content=b"x" * 100_000).text == "100000"
