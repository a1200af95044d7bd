"""Asks others' statements of the published folder, each in a process of its own: `process.py` beside this file.

The answer is a file without a name that Arrow maps, so that a large one does not grow the daemon's memory.
"""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from flywheel.settings.load import Limits
from flywheel.store.published.analytics import FILE_NAME, PublishedFolder
from flywheel.store.schema.errors import SqlBusy, SqlRefused
from flywheel.store.statements.process import REFUSED

AS_OF = b"as_of"
_PROGRAM = Path(__file__).with_name("process.py")
_GRACE_SECONDS = 20.0  # for a process to start on a busy machine; its own timer begins with the statement
_TURN_SECONDS = 3.0
# a file may be replaced between the moment that a statement names it and the moment that it opens it
_GONE = ("No files found", "Cannot open file", "No such file")


@dataclass(frozen=True, slots=True)
class _Started:
    """A started process, and the file that it writes its answer to."""

    process: subprocess.Popen[bytes]
    answer: BinaryIO


class Statements:
    """Answers of others' statements as Arrow tables, a few at a time."""

    def __init__(self, published: PublishedFolder, folder: Path, at_once: int) -> None:
        self._published = published
        self._folder = folder.resolve()
        self._turns = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._ready: _Started | None = None
        self._keep_ready = False

    def keep_ready(self) -> None:
        """From now on have a started process wait for the next statement, so that starting one delays no answer."""
        self._keep_ready = True
        self._start_ready()

    def close(self) -> None:
        """End the process that waits, if one does."""
        self._keep_ready = False
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None:
            ready.process.communicate()
            ready.answer.close()

    def query(
        self,
        statement: str,
        limits: Limits | None = None,
        *,
        max_age_seconds: float = 0.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> pa.Table:
        """Run one SELECT on the published folder, which is renewed first if it is older than `max_age_seconds`.

        The schema's metadata has `as_of`, the moment of that publication.

        Raises:
            SqlRefused: not one SELECT, an error in it, or over its limits; the message says which, and what to do.
            SqlBusy: as many statements as may run at once are running.
            StoreError: the folder could not be renewed.
        """
        allowed = limits or Limits()
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise SqlBusy("other statements are running; ask again in a moment, or raise limits.sql_at_once")
        try:
            as_of_ms = self._published.refresh(now_ms, max_age_seconds)
            try:
                table = self._ask(statement, allowed)
            except SqlRefused as refusal:
                if not any(sign in str(refusal) for sign in _GONE):
                    raise
                table = self._ask(statement, allowed)
        finally:
            self._turns.release()
        as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC).isoformat(timespec="milliseconds")
        return table.replace_schema_metadata({**(table.schema.metadata or {}), AS_OF: as_of.encode()})

    def _ask(self, statement: str, limits: Limits) -> pa.Table:
        request = {
            "statement": statement,
            "database": str(self._folder / FILE_NAME),
            "folder": str(self._folder),
            "max_rows": limits.result_rows,
            "seconds": limits.sql_seconds,
            "memory_mb": limits.sql_memory_mb,
            "answer_mb": limits.result_mb,
        }
        asked = self._take()
        try:
            with asked.answer:
                told = _run(asked.process, json.dumps(request).encode(), limits)
                if told is not None:
                    raise SqlRefused(told)
                return _mapped(asked.answer)
        finally:
            if self._keep_ready:
                self._start_ready()

    def _take(self) -> _Started:
        with self._lock:
            ready, self._ready = self._ready, None
        return ready if ready is not None and ready.process.poll() is None else _start()

    def _start_ready(self) -> None:
        with self._lock:
            if self._ready is None:
                self._ready = _start()


def _start() -> _Started:
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever reads the answer
    process = subprocess.Popen(  # noqa: S603 - our own program; the statement comes to it as data
        [sys.executable, "-I", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=subprocess.PIPE,
        env={},  # no password or token of ours is in its memory
        cwd="/",
    )
    return _Started(process, answer)


def _run(process: subprocess.Popen[bytes], request: bytes, limits: Limits) -> str | None:
    """Why the statement was refused, or None where it was answered."""
    try:
        _, told = process.communicate(request, limits.sql_seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        told = b""
        late = True
    else:
        late = process.returncode in (-signal.SIGALRM, -signal.SIGXCPU)
    if process.returncode == 0:
        return None
    if late:
        return f"stopped after {limits.sql_seconds:g} s; narrow it, or raise limits.sql_seconds"
    if process.returncode == REFUSED:
        with suppress(ValueError, KeyError, IndexError):
            return str(json.loads(told.splitlines()[-1])["refused"])
    return f"it ended its process, which may use {limits.sql_memory_mb} MB (limits.sql_memory_mb); write it another way"


def _mapped(answer: BinaryIO) -> pa.Table:
    # the map is never closed by hand: Arrow holds on to it for as long as the table lives
    mapped = mmap.mmap(answer.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
