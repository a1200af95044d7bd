"""The server on its thread: started, stopped, and clear about ports it cannot have."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flywheel.serving.server import BindError, HttpServer
from flywheel.settings.load import ConfigError


def app() -> Starlette:
    async def hello(_: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def forever(_: object) -> PlainTextResponse:
        await asyncio.sleep(3_600)
        return PlainTextResponse("never")

    return Starlette(routes=[Route("/", hello), Route("/forever", forever)])


def test_it_answers_once_started_and_not_once_stopped() -> None:
    """`start` returns when requests are answered, on the free port that `url` names; `stop` lets go of it."""
    server = HttpServer(app(), "127.0.0.1", 0)
    server.start()
    assert httpx.get(server.url, trust_env=False).text == "hello"
    server.stop()
    assert not server.alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, trust_env=False)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", httpx.URL(server.url).port or 0))


def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    """The second server on a port raises at once, as a ConfigError, and the first goes on."""
    with HttpServer(app(), "127.0.0.1", 0) as first:
        port = httpx.URL(first.url).port or 0
        with pytest.raises(BindError, match=r"in use.*serving\.port") as caught:
            HttpServer(app(), "127.0.0.1", port).start()
        assert isinstance(caught.value, ConfigError)
        assert httpx.get(first.url, trust_env=False).status_code == 200


def test_a_foreign_address_is_an_error_that_names_the_setting() -> None:
    """An address that this machine does not have, and a name that nobody knows, are told apart from a busy port."""
    with pytest.raises(BindError, match=r"serving\.host"):
        HttpServer(app(), "203.0.113.7", 0).start()
    with pytest.raises(BindError, match=r"serving\.host"):
        HttpServer(app(), "no-such-host.invalid", 0).start()


def test_signal_handlers_stay_the_daemons() -> None:
    """Starting and stopping the server changes no signal handler."""
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    with HttpServer(app(), "127.0.0.1", 0):
        assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)] == before
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_request_that_never_ends_does_not_keep_the_server_up() -> None:
    """`stop` returns within seconds although a client still waits."""
    server = HttpServer(app(), "127.0.0.1", 0)
    server.start()
    connected = threading.Event()

    def wait() -> None:
        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0)) as client:
            client.sendall(b"GET /forever HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connected.set()
            client.recv(10)

    thread = threading.Thread(target=wait)
    thread.start()
    connected.wait(5)
    httpx.get(server.url, trust_env=False)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 8
    thread.join(5)
    assert not thread.is_alive()


def test_an_application_that_does_not_start_is_an_error() -> None:
    """A failing lifespan raises where `start` was called, and frees the port."""

    async def broken(scope: dict[str, object], receive: object, send: object) -> None:
        raise RuntimeError("cannot start")

    with pytest.raises(RuntimeError, match="did not start"):
        HttpServer(broken, "127.0.0.1", 0).start()  # type: ignore[arg-type]


def test_addresses_are_written_as_urls() -> None:
    """IPv6 gets its brackets, and an address that means every interface is reached over loopback."""
    assert HttpServer(app(), "::1", 80).url == "http://[::1]:80"
    assert HttpServer(app(), "0.0.0.0", 80).url == "http://127.0.0.1:80"
