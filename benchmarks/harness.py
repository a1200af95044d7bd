"""What every benchmark shares: a daemon and an Apache Kafka of its own, and the one line that says what was measured.

That line is the last on standard output: the figures, and under `run` where they come from. `benchmarks/report.py`
reads it, so that nobody copies a figure by hand.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 900.0
STARTED = time.monotonic()


def print_result(figures: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Print the benchmark's result as one line of JSON: `figures`, and `run` with their origin.

    A benchmark calls it once, as the last thing that it does. `figures` may not have a key `run`.
    """
    if "run" in figures:
        raise ValueError("`run` is the key of the figures' origin")
    print(json.dumps({**figures, "run": origin(sys.argv, seeds)}), flush=True)


def origin(argv: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Which command measured, on which code and machine: all that somebody needs to measure again.

    `seconds` is the time since this module was loaded, `load` the mean number of processes that wanted a core in the
    last five minutes. A load far above what the benchmark itself needs makes its times too long.
    """
    name = Path(argv[0]).stem
    return {
        "benchmark": name,
        "command": " ".join(["python -m", f"benchmarks.{name}", *map(_portable, argv[1:])]),
        "commit": commit(),
        "machine": machine(),
        "seeds": list(seeds),
        "seconds": round(time.monotonic() - STARTED, 1),
    }


def _portable(argument: str) -> str:
    """A path is a matter of one machine: of an argument that is one, the last part stays."""
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if os.sep in value else argument


def commit() -> str | None:
    """The commit of the checkout, with a `+` where tracked files differ from it; None where git does not know."""
    try:
        told = [
            subprocess.run(["git", *verb.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for verb in ("rev-parse --short=10 HEAD", "status --porcelain --untracked-files=no")
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return told[0] + ("+" if told[1] else "")


def machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the load; never a host's name."""
    try:
        cores, load = len(os.sched_getaffinity(0)), round(os.getloadavg()[1], 1)
    except (AttributeError, OSError):  # macOS has no affinity, Windows no load
        cores, load = os.cpu_count() or 1, None
    return {"cpu": _processor(), "cores": cores, "load": load, "python": platform.python_version()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class Kafka:
    """Apache Kafka from scripts/kafka in `folder`, or the cluster that FLYWHEEL_TEST_BOOTSTRAP names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bootstrap = os.environ.get("FLYWHEEL_TEST_BOOTSTRAP", "")
        self.own = not self.bootstrap

    def start(self) -> None:
        """Start, or start again, and wait until it answers."""
        if self.own:
            port = self.bootstrap.rpartition(":")[2] or "0"
            self.bootstrap = self._script("start", "--port", port).splitlines()[-1].strip()

    def stop(self) -> None:
        """Stop it and keep what it holds."""
        if self.own:
            self._script("stop")

    def _script(self, verb: str, *options: str) -> str:
        command = [str(ROOT / "scripts/kafka"), verb, "--dir", str(self.folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"scripts/kafka {verb} failed: {done.stdout}{done.stderr}")
        return done.stdout


class Daemon:
    """`flywheel run` on one home as a real process that can be killed and started again."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.home = home
        self.environ = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
        self.environ |= {f"FLYWHEEL__{key.replace('.', '__').upper()}": value for key, value in settings.items()}
        self.kills = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def flywheel(self, *arguments: str, check: bool = True) -> Any:
        """Run a command with `--json` on this home; its JSON value, or None where it failed and `check` is off."""
        command = [sys.executable, "-m", "flywheel.cli", "--home", str(self.home), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environ, check=False)
        if done.returncode and check:
            raise RuntimeError(f"{' '.join(arguments)} exited with {done.returncode}: {done.stderr[-2000:]}")
        return None if done.returncode else json.loads(done.stdout.strip().splitlines()[-1])

    def start(self, wait: bool = True) -> None:
        """Start the daemon; with `wait`, until it says that it is ready."""
        log = (self.home.parent / "daemon.log").open("ab")
        command = [sys.executable, "-m", "flywheel.cli", "--home", str(self.home), "run"]
        with self._lock:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ)
        if wait:
            self.wait_ready()

    @property
    def url(self) -> str:
        """Where the running daemon answers."""
        found: dict[str, str] = json.loads((self.home / "daemon.json").read_text("utf-8"))
        return found["url"]

    def wait_ready(self) -> None:
        """Until /readyz is 200; raises with the log's end when the process ends first."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200:
                    return
            except (OSError, ValueError, KeyError, httpx.HTTPError):
                pass
            process = self._process
            if process is not None and process.poll() not in (None, -signal.SIGKILL):
                raise RuntimeError("the daemon ended: " + self.log_tail())
            time.sleep(0.1)
        raise TimeoutError("the daemon is not ready: " + self.log_tail())

    def kill(self) -> None:
        """SIGKILL, no goodbye."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
                self.kills += 1

    def stop(self) -> float:
        """SIGTERM; how many seconds it took to end."""
        started = time.monotonic()
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()
                self._process.wait(timeout=30)
        return time.monotonic() - started

    def log_tail(self) -> str:
        """The last 3,000 characters that it logged."""
        return (self.home.parent / "daemon.log").read_text("utf-8", "replace")[-3000:]


class Killer(threading.Thread):
    """Kills the daemon with SIGKILL after each of the given waits, in seconds, and starts it again."""

    def __init__(self, daemon: Daemon, waits: list[float]) -> None:
        super().__init__(daemon=True)
        self._target_daemon, self._waits = daemon, waits
        self._stop_event = threading.Event()

    def run(self) -> None:
        for wait in self._waits:
            if self._stop_event.wait(wait):
                return
            self._target_daemon.kill()
            self._target_daemon.start(wait=False)

    def finish(self) -> None:
        """No further kill; returns once the last restart is under way."""
        self._stop_event.set()
        self.join()
