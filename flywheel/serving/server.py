"""Runs the HTTP API on a thread of its own. The daemon starts and stops it; it handles no signals."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading

import uvicorn
from starlette.types import ASGIApp

from flywheel.serving.connections import Room, allow_files, bounded
from flywheel.settings.load import ConfigError, Limits

_log = logging.getLogger("flywheel.serving")
_GRACE_SECONDS = 4
# A model's pass gives the interpreter's lock away at each of its hundred steps and more. With Python's own 5 ms, a
# thread that decodes records made a search wait up to that long at every one.
_SWITCH_SECONDS = 0.0002
_JOIN_SECONDS = 8.0  # more than the grace period, so that requests can end by themselves
_WHY = {
    errno.EADDRINUSE: "the port is in use by another program: stop that, or set serving.port (0 takes a free one)",
    errno.EADDRNOTAVAIL: "this machine has no such address: set serving.host to one of its own, such as 127.0.0.1",
    errno.EACCES: "this user may not bind that port: set serving.port to one above 1023",
}


class BindError(ConfigError):
    """The address cannot be bound; the message names the setting to change."""


class HttpServer:
    """Binds in `start`, so that a port in use is an error there and not a thread that dies unseen.

    A context manager: `with HttpServer(app, host, port) as server: ...server.url`.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, limits: Limits | None = None) -> None:
        self._host = host
        self._port = port
        allowed = limits or Limits()
        self._connections = allowed.connections
        room = Room(allowed.connections, allowed.header_seconds, allowed.idle_seconds, allowed.stall_seconds)
        config = uvicorn.Config(
            app,
            lifespan="on",
            http=bounded(room),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=round(allowed.idle_seconds),
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = _Server(config)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Return once requests are answered.

        Raises:
            BindError: the address or port cannot be bound.
            RuntimeError: the application did not start; its log says why.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        allow_files(self._connections)
        listener = _bind(self._host, self._port)
        self._port = int(listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="http", daemon=True)
        self._thread.start()
        self._server.settled.wait()
        if not self._server.started:
            self._thread.join(_JOIN_SECONDS)
            raise RuntimeError("the HTTP API did not start; the log says why")

    def stop_soon(self) -> None:
        """Begin to stop, without waiting; `stop` waits."""
        self._server.should_exit = True

    def stop(self) -> None:
        """Finish open requests and release the port, within seconds; harmless when not started."""
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_JOIN_SECONDS)
        self._server.force_exit = True
        self._thread = None

    @property
    def url(self) -> str:
        """The address on this machine; with the real port once started."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> HttpServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        except SystemExit:  # uvicorn raises it if the application did not start, after it logged why
            _log.error("the HTTP API did not start")
        finally:
            listener.close()
            self._server.settled.set()


class _Server(uvicorn.Server):
    """Sets an event when it has started, so that nobody must poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindError(f"serving.host {host!r} cannot be resolved: {error}") from error
    try:
        # a restart must not wait until the old connections time out (TIME_WAIT)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        why = _WHY.get(error.errno or 0, str(error))
        raise BindError(f"cannot serve on {host}:{port}: {why}") from error
    return listener
