"""Writes raw rows as Parquet by day, in increments. Each row is in exactly one listed file, whenever the process dies.

The list is the `exports` table. A file is written under another name, flushed and renamed before it is listed. A crash
may leave a file that is not listed. It is deleted before the next increment is written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

# more files than this make a day slow to read; files with fewer rows than this are worth joining
_MAX_SMALL_FILES = 60
_SMALL_ROWS = 50_000
_ROW_GROUP = 100_000
# for so long a reader of the last publication still finds its files
GRACE_MS = 600_000


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """A table that is exported: `sequence` numbers its rows in order of arrival, `time` gives their day."""

    table: str
    sequence: str
    time: str


SOURCES = (
    ExportedTable("queries", "batch", "ts"),
    ExportedTable("feedback", "batch", "ts"),
    ExportedTable("documents", "change_seq", "ingested_at"),
)
_BY_TABLE = {source.table: source for source in SOURCES}


@dataclass(frozen=True, slots=True)
class File:
    """One Parquet file: rows of one table, of one day, of the sequences first to last."""

    table: str
    day: date
    first: int
    last: int
    rows: int
    name: str

    @property
    def path(self) -> str:
        """Relative to the analytics folder."""
        return f"{self.table}/date={self.day:%Y-%m-%d}/{self.name}"


class Exports:
    """Writes increments, rewrites files with erased rows and joins small ones. One thread at a time uses it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def sweep(self) -> int:
        """Delete what a crash left: files that are not listed. Returns how many.

        A listed file that is gone, as in a home that was restored, is to be written again.
        """
        with self._database.read() as con:
            listed = {path for (path,) in con.execute("SELECT path FROM exports").fetchall()}
        gone = sorted(path for path in listed if not (self._folder / path).exists())
        if gone:
            with self._database.write() as con:
                con.execute("UPDATE exports SET stale = true WHERE path IN (SELECT unnest(?::VARCHAR[]))", [gone])
        swept = 0
        for source in SOURCES:
            for path in (self._folder / source.table).glob("date=*/*"):
                if path.relative_to(self._folder).as_posix() not in listed:
                    path.unlink()
                    swept += 1
        return swept

    def increment(self, now_ms: int) -> int:
        """Write and list what came since the last increment. Returns the number of rows."""
        with self._database.read() as con:
            erasures = _erasures(con)
            ranges = [(source, *_range(con, source)) for source in SOURCES]
            files = [file for source, first, last in ranges for file in self._write_days(con, source, first, last)]
        with self._database.write() as con:
            # rows may have been erased since our snapshot; then these files must be rewritten
            stale = _erasures(con) != erasures
            for file in files:
                _list(con, file, now_ms, stale=stale)
            for source, _, last in ranges:
                con.execute(
                    "INSERT INTO ingest_totals VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    [f"exported_{source.table}", last],
                )
        return sum(file.rows for file in files)

    def renew(self, now_ms: int) -> int:
        """Rewrite files with erased rows, and join small ones. Returns how many were replaced."""
        with self._database.read() as con:
            stale = [[file] for file in _listed(con, "AND stale")]
            groups = stale + list(_joinable(_listed(con, "AND NOT stale")))
        for group in groups:
            self._replace(group, now_ms)
        return sum(len(group) for group in groups)

    def forget(self, now_ms: int) -> None:
        """Delete replaced files: at once if rows were erased, else once readers have moved on."""
        with self._database.read() as con:
            replaced = con.execute(
                "SELECT path FROM exports WHERE retired_at IS NOT NULL AND (stale OR retired_at <= ?)",
                [moment(now_ms - GRACE_MS)],
            ).fetchall()
        # files before rows: after a kill between the two, the list still names what to delete
        for (path,) in replaced:
            (self._folder / path).unlink(missing_ok=True)
        with self._database.write() as con:
            con.execute(
                "DELETE FROM exports WHERE path IN (SELECT unnest(?::VARCHAR[]))", [[path for (path,) in replaced]]
            )

    def paths(self, table: str) -> list[str]:
        """The listed files of a table, as absolute paths. The first has no rows and gives the columns."""
        with self._database.read() as con:
            empty = self._folder / table / "columns.parquet"
            nothing = f"SELECT * FROM {table} LIMIT 0"  # noqa: S608 - one of SOURCES
            columns = [name for name, *_ in con.sql(nothing).description]
            if not empty.exists() or pq.read_schema(empty).names != columns:
                self._write(con, nothing, [], empty)
            files = _listed(con, "AND source = ?", [table])
        return [str(empty)] + [str(self._folder / file.path) for file in files]

    def _write_days(
        self, con: duckdb.DuckDBPyConnection, source: ExportedTable, first: int, last: int
    ) -> Iterator[File]:
        if last < first:
            return
        days = con.execute(
            f"SELECT {source.time}::DATE AS day, count(*) FROM {source.table} "  # noqa: S608 - one of SOURCES
            f"WHERE {source.sequence} BETWEEN ? AND ? GROUP BY day ORDER BY day",
            [first, last],
        ).fetchall()
        for day, rows in days:
            file = File(source.table, day, first, last, rows, f"{source.table}-{first:012d}-{last:012d}.parquet")
            self._write_rows(con, file)
            yield file

    def _write_rows(self, con: duckdb.DuckDBPyConnection, file: File) -> int:
        source = _BY_TABLE[file.table]
        return self._write(
            con,
            f"SELECT * FROM {source.table} WHERE {source.sequence} BETWEEN ? AND ? "  # noqa: S608 - one of SOURCES
            f"AND {source.time} >= ? AND {source.time} < ?::DATE + 1 ORDER BY {source.sequence}",
            [file.first, file.last, file.day, file.day],
            self._folder / file.path,
        )

    def _write(self, con: duckdb.DuckDBPyConnection, statement: str, parameters: list[object], path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        rows = 0
        reader = con.sql(statement, params=parameters).to_arrow_reader(_ROW_GROUP)
        with partial.open("wb") as sink:
            with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            sink.flush()
            os.fsync(sink.fileno())
        rename_synced(partial, path)
        return rows

    def _replace(self, group: list[File], now_ms: int) -> None:
        first, last = group[0].first, group[-1].last
        with self._database.read() as con:
            erasures = _erasures(con)
            name = f"{group[0].table}-{first:012d}-{last:012d}-{uuid.uuid4().hex[:8]}.parquet"
            file = File(group[0].table, group[0].day, first, last, 0, name)
            rows = self._write_rows(con, file)
        with self._database.write() as con:
            con.execute(
                "UPDATE exports SET retired_at = ? WHERE path IN (SELECT unnest(?::VARCHAR[]))",
                [moment(now_ms), [old.path for old in group]],
            )
            renewed = File(file.table, file.day, first, last, rows, name)
            _list(con, renewed, now_ms, stale=_erasures(con) != erasures)


def rename_synced(partial: Path, path: Path) -> None:
    """Put a finished file in its place, so that it is there whole after a power cut too."""
    partial.replace(path)
    # the rename itself lies in the folder
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _range(con: duckdb.DuckDBPyConnection, source: ExportedTable) -> tuple[int, int]:
    exported = con.execute("SELECT value FROM ingest_totals WHERE name = ?", [f"exported_{source.table}"]).fetchall()
    written = exported[0][0] if exported else 0
    last = con.execute(f"SELECT max({source.sequence}) FROM {source.table}").fetchall()[0][0]  # noqa: S608
    return written + 1, max(written, last or 0)


def _erasures(con: duckdb.DuckDBPyConnection) -> int:
    rows = con.execute("SELECT value FROM ingest_totals WHERE name = 'erasures'").fetchall()
    return int(rows[0][0]) if rows else 0


def _list(con: duckdb.DuckDBPyConnection, file: File, now_ms: int, *, stale: bool) -> None:
    con.execute(
        "INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        [file.path, file.table, file.day, file.first, file.last, file.rows, moment(now_ms), stale],
    )


def _listed(con: duckdb.DuckDBPyConnection, where: str, parameters: list[str] | None = None) -> list[File]:
    entries = con.execute(
        "SELECT source, day, first_seq, last_seq, row_count, path FROM exports "  # noqa: S608 - our own constants
        f"WHERE retired_at IS NULL {where} ORDER BY source, day, first_seq",
        parameters or [],
    ).fetchall()
    return [File(table, day, first, last, rows, Path(path).name) for table, day, first, last, rows, path in entries]


def _joinable(files: list[File]) -> Iterator[list[File]]:
    """Runs of small files at the end of a table's day. Files before a large one stay as they are."""
    days: dict[tuple[str, date], list[File]] = {}
    for file in files:
        run = days.setdefault((file.table, file.day), [])
        run.append(file)
        if file.rows >= _SMALL_ROWS:
            run.clear()
    yield from (run for run in days.values() if len(run) > _MAX_SMALL_FILES)
