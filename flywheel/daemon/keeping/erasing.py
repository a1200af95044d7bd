"""Erases one person from the whole home: rows, and the bytes that deleted rows leave in files.

The steps are numbered where they happen. Killed between any two, `finish` goes on from there: at the next start, at the
next publication, or when it is asked again.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from flywheel.operations import Json
from flywheel.settings.home import Home
from flywheel.store.schema.errors import StoreError
from flywheel.store.store import Store

log = logging.getLogger(__name__)

_PART = 1 << 20
_LONGEST = 4_096  # bytes of an id that is looked for across the edge of two parts


class Eraser:
    """Erases, and finishes what was begun; one at a time."""

    def __init__(self, home: Home, store: Store, hash_id: Callable[[str], str], now_ms: Callable[[], int]) -> None:
        self._home, self._store, self._hash_id, self._now_ms = home, store, hash_id, now_ms
        self._lock = threading.Lock()
        self.error: str | None = None
        """Why the last attempt to finish failed; None if it did not."""
        self.listeners: list[Callable[[str], None]] = []
        """Told the key of whom is erased, before anything is."""
        self.chores: list[Callable[[], None]] = []
        """Called before `finish` looks what is to be written anew, such as what deletes by age."""

    def erase(self, user_id: str) -> Json:
        """Erase the person with this id, in rows and files.

        1. the logs, which hold the id at most, 2. whoever must remember it is told, 3. the rows, in one transaction
        with the mark that files follow, 4. the files: see `finish`.

        Raises:
            StoreError: nothing was erased, or (`pending` in `status`) the files are still to be written anew.
        """
        key = self._hash_id(user_id)
        with self._lock:
            mask(self._logs(), (user_id, key))  # 1
            for listener in self.listeners:  # 2
                listener(key)
            erased = self._store.erasure.erase_user([key], [user_id], self._hash_id)  # 3
            if self._store.erasure.pending():
                self._finish()  # 4
        rows = {name: getattr(erased, name) for name in erased.__dataclass_fields__}
        return {**rows, "total": erased.total, "pending": self._store.erasure.pending()}

    def finish(self) -> bool:
        """Write anew what holds bytes of deleted rows; True if something was.

        1. training snapshots, 2. published files, 3. the database file, and with it the mark that files follow.
        """
        with self._lock:
            for chore in self.chores:
                chore()
            if not self._store.erasure.pending():
                return False
            self._finish()
            return True

    def status(self) -> Json:
        """For `status`: whether files still hold what was erased, and why."""
        return {"pending": self._store.erasure.pending(), "error": self.error}

    def _finish(self) -> None:
        log.warning("erasing: files are written anew; ingestion goes on afterwards")
        try:
            active = self._store.runs.active()
            self._home.prune_snapshots([active.run_id] if active else [])  # 1
            self._store.analytics.publish(self._now_ms())  # 2
            if active is not None:
                self.error = (
                    f"run {active.run_id} trains on a snapshot from before; what is left follows when it has ended"
                )
                return
            self._store.erasure.settle()  # 3
        except (StoreError, OSError) as error:
            self.error = str(error)
            raise
        self.error = None
        log.warning("erased: no file holds it any more")

    def _logs(self) -> Iterable[Path]:
        yield from self._home.logs.glob("*.log*")
        yield from self._home.models.glob("*.log")


def mask(paths: Iterable[Path], values: Iterable[str]) -> None:
    """Overwrite whole occurrences of these values with as many asterisks, in place: a log that is open goes on."""
    wanted = {spelled.encode() for value in values for spelled in (value, json.dumps(value)[1:-1]) if value}
    if not wanted:
        return
    longest_first = sorted(wanted, key=len, reverse=True)
    pattern = re.compile(rb"(?<![\w-])(?:" + b"|".join(re.escape(value) for value in longest_first) + rb")(?![\w-])")
    for path in paths:
        _mask(path, pattern)


def _mask(path: Path, pattern: re.Pattern[bytes]) -> None:
    with path.open("r+b") as file:
        start = 0
        while True:
            file.seek(start)
            part = file.read(_PART)
            if not part:
                return
            masked = pattern.sub(lambda found: b"*" * len(found[0]), part)
            if masked != part:
                file.seek(start)
                file.write(masked)
            if len(part) < _PART:
                return
            start += _PART - _LONGEST
