"""The one connection to the database file: a single writer, any number of readers, and errors as `StoreError`.

Refuses to share the file with another process, to read or write any other file, and to load extensions.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from flywheel.store.schema import rewriting
from flywheel.store.schema.errors import StoreError, StoreFull, StoreLocked

# DuckDB 1.5 can still read files of this version
STORAGE_VERSION = "v1.5.0"
_DRAIN_SECONDS = 30.0
_HOLDER = re.compile(r"PID (\d+)")
# DuckDB gives a second connection of one process the same instance: without this there could be two writers
_OPEN: set[Path] = set()
_FULL = ("No space left", "File too large", "Disk quota", "disk full", "out of disk", "max_temp_directory_size")


class Database:
    """DuckDB behind one writer lock. Reads run beside it, each on the snapshot from its beginning.

    Attributes:
        path: the database file.
        folder: the folder that it lies in.
    """

    def __init__(self, path: Path, *, memory_gb: float, threads: int | None = None) -> None:
        self.path = path
        self.folder = path.parent
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "storage_compatibility_version": STORAGE_VERSION,
            "memory_limit": f"{max(64, int(memory_gb * 1000))}MB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allow_persistent_secrets": False,
            "enable_external_access": False,
            "python_enable_replacements": False,  # or a table's name could find a Python variable
        }
        if threads is not None:
            self._config["threads"] = threads
        self._lock = threading.RLock()  # reentrant: a `write` may stand inside a `write`
        self._cursors = threading.Condition()
        self._reading = 0
        self._depth = 0
        self._closed = False
        self._readers: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        resolved = path.resolve()
        if resolved in _OPEN:
            raise StoreLocked(f"{path} is already open in this process; close that store first")
        rewriting.sweep(path)
        self._connect()
        _OPEN.add(resolved)

    def _connect(self) -> None:
        try:
            self._root = duckdb.connect(self.path, config=self._config)
            self._root.execute("SET TimeZone = 'UTC'")
            # last, so that no later statement can lift the limits above
            self._root.execute("SET lock_configuration = true")
            self._writer = self._root.cursor()
        except duckdb.Error as error:
            raise _opening_error(self.path, error) from error

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The writer's connection inside one transaction: committed at the end, rolled back on any exception.

        A `write` inside a `write` of the same thread joins the outer transaction.

        Raises:
            StoreError: the database refused; `StoreFull` if the disk did. Nothing was written.
        """
        with self._lock:
            if self._depth:
                yield self._writer
                return
            self._open_or_raise()
            self._depth = 1
            try:
                yield from self._transaction()
            finally:
                self._depth = 0

    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            self._writer.execute("BEGIN TRANSACTION")
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException as error:
            with suppress(duckdb.Error):
                self._writer.execute("ROLLBACK")
            if isinstance(error, duckdb.Error):
                self._recover(error)
                raise _as_store_error(error) from error
            raise

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A separate cursor that sees one snapshot until the end of the block. It may make temporary tables.

        Raises:
            StoreError: the database refused. It refuses every attempt to write.
        """
        cursor = self._begin_reading()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield cursor
        except duckdb.Error as error:
            with self._lock:
                self._recover(error)
            raise _as_store_error(error) from error
        finally:
            with suppress(duckdb.Error):
                cursor.close()
            with self._cursors:
                self._reading -= 1
                self._cursors.notify_all()

    def _begin_reading(self) -> duckdb.DuckDBPyConnection:
        self._open_or_raise()
        with self._cursors:
            cursor = self._root.cursor()
            self._readers.add(cursor)
            self._reading += 1
        return cursor

    def memory_bytes(self) -> int:
        """What the database holds in memory now."""
        with self.read() as con:
            used = con.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()[0][0]
        return int(used or 0)

    @contextmanager
    def quiet(self) -> Iterator[Path]:
        """The file, closed and complete, while nobody reads or writes it; opened again at the end of the block.

        Readers that do not end within `_DRAIN_SECONDS` are interrupted. Others wait, and go on afterwards.

        Raises:
            StoreError: the file could not be brought up to date, or not be opened again.
        """
        with self._lock:
            self._open_or_raise()
            with self._cursors:
                self._cursors.wait_for(lambda: self._reading == 0, _DRAIN_SECONDS)
                try:
                    self._writer.execute("FORCE CHECKPOINT")
                except duckdb.Error as error:
                    raise _as_store_error(error) from error
                self._disconnect()
                try:
                    yield self.path
                finally:
                    self._connect()

    def rewrite(self) -> None:
        """Put a fresh copy in the file's place, without what was deleted. Takes as long as copying takes.

        Raises:
            StoreError: the database or the disk refused. The file stays as it was.
        """
        with self.quiet() as path:
            try:
                rewriting.rewrite(path, STORAGE_VERSION)
            except duckdb.Error as error:
                raise _as_store_error(error) from error
            except OSError as error:
                raise StoreError(f"{path} could not be rewritten: {error}") from error

    def close(self) -> None:
        """Interrupt readers, write the last checkpoint and let go of the file. Closing twice does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._disconnect()
                _OPEN.discard(self.path.resolve())

    def _disconnect(self) -> None:
        for reader in list(self._readers):
            with suppress(duckdb.Error):
                reader.interrupt()
                reader.close()
        for connection in (self._writer, self._root):
            with suppress(duckdb.Error):
                connection.close()

    def _open_or_raise(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path} is closed")

    def _recover(self, error: duckdb.Error) -> None:
        """After a fatal error DuckDB answers nothing more until the file is opened anew."""
        if isinstance(error, duckdb.FatalException | duckdb.InternalException) or self._is_invalid():
            self._disconnect()
            self._connect()

    def _is_invalid(self) -> bool:
        try:
            self._writer.execute("SELECT 1").fetchall()
        except duckdb.Error:
            return True
        return False


def _as_store_error(error: duckdb.Error) -> StoreError:
    text = str(error)
    if any(sign in text for sign in _FULL):
        return StoreFull(f"no room on the disk: {text}; free some space and it goes on by itself")
    return StoreError(text)


def _opening_error(path: Path, error: duckdb.Error) -> StoreError:
    text = str(error)
    if "lock" in text.lower():
        holder = _HOLDER.search(text)
        who = f"process {holder[1]}" if holder else "another process"
        return StoreLocked(
            f"{path} is in use by {who}; stop that daemon, or talk to it over HTTP (`flywheel` commands do so by "
            f"themselves), or read the published copy in {path.parent / 'analytics'}"
        )
    return StoreError(f"cannot open {path}: {text}")
