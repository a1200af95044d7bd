"""Reads files that people bring (documents, feedback, annotations) row by row, with a reason for each row skipped.

It knows files and shapes. What a record means is decided where it is stored.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from flywheel.files import answers, arrow, cells, exported, texts
from flywheel.files.annotations import judgements
from flywheel.files.cells import BadCell
from flywheel.files.exported import Source
from flywheel.files.lines import LineTooLong
from flywheel.files.skipped import ImportCount, ImportFailed
from flywheel.files.texts import Placed

__all__ = ["BATCH", "ImportCount", "ImportFailed", "batches", "read_annotations", "read_documents", "read_feedback"]

Record = dict[str, Any]
BATCH = 1_000
_IDS = ("doc_id", "_id", "id")
_TEXTS = ("text", "body", "content")
_JSON_LINES = {".jsonl", ".ndjson"}
_TABLES = {".csv", ".tsv", ".parquet"}
_KNOWN = ".jsonl, .ndjson, .json, .csv, .tsv, .parquet (the text ones also .gz)"
# what ingestion reads of a UBI record; half a character elsewhere spoils nothing
_USED = ("query_id", "user_query", "action_name", "client_id", "user_id", "session_id", "query_response_hit_ids")
_NESTED = ("event_attributes", "query_attributes", "query_response_hit_ids")


def read_documents(path: Path, tally: ImportCount) -> Iterator[Record]:
    """Documents of a JSON, CSV, TSV or Parquet file as `{doc_id, title, text, updated_at?, deleted?}`.

    The id may stand as `doc_id`, `_id` or `id`, the text as `text`, `body` or `content`. OpenSearch's exports are read
    too: an id of the wrapping counts as `_id`.

    Raises:
        ImportFailed: unknown ending, unreadable file, or a first row without an id.
    """
    for source in _sources(path, tally):
        row = {_name(name): value for name, value in source.record.items()}
        if source.outer_id is not None:
            row["_id"] = source.outer_id
        if tally.read == 1 and not row.keys() & set(_IDS):
            raise ImportFailed(f"{path} has no doc_id (nor _id, id); it has {', '.join(map(str, row)) or 'nothing'}")
        try:
            record = _document(row, deleted=source.deleted)
        except BadCell as problem:
            tally.skip(str(problem))
        else:
            yield record


def _document(row: Record, *, deleted: bool) -> Record:
    """The document of a row.

    Raises:
        BadCell: the reason why there is none.
    """
    doc_id, title, text = _text(row, *_IDS), _text(row, "title"), _text(row, *_TEXTS)
    gone = deleted or _named("deleted", cells.flag, row.get("deleted"))
    if doc_id is None:
        raise BadCell("no doc_id")
    if not gone and not (text or title):
        raise BadCell("neither title nor text")
    record = {"doc_id": doc_id, "title": title or "", "text": text or "", "deleted": gone}
    when = row.get("updated_at")
    moment = _named("updated_at", cells.text, when)
    if moment is not None:
        record["updated_at"] = when if isinstance(when, int | float) else moment
    return record


def read_feedback(path: Path, tally: ImportCount) -> Iterator[Record]:
    """UBI queries and events: an object a line or a row of a table; OpenSearch's exports and bulk form are read too.

    Columns of a table may be named by their path, as in `event_attributes.object.object_id`, or hold JSON.
    """
    table = _kind(path) in _TABLES
    for source in _sources(path, tally):
        row = _nested(source.record) if table else source.record
        if source.deleted:
            tally.skip("a deletion, which is no feedback")
            continue
        if not table and _is_sound(row):  # a table's row may hold a cell that is `UnreadableCell`
            yield row
            continue
        spoilt = next((name for name in _USED if row.get(name) != cells.mended(row.get(name))), None)
        if spoilt is None:
            yield cells.mended(row)
        else:
            tally.skip(f"{spoilt}: half a character, or bytes that are no UTF-8")


def _is_sound(row: Record) -> bool:
    """Whether JSON can carry the row as it is; the quickest way to know is to try."""
    try:
        msgspec.json.encode(row)
    except (UnicodeError, TypeError, OverflowError, RecursionError):
        return False
    return True


def read_annotations(path: Path, tally: ImportCount) -> Iterator[Record]:
    """One `{query, doc_id, grade}` a pair. See `flywheel.files.annotations.judgements` for shapes and disagreement."""
    yield from judgements(rows(path, tally), tally.skip)


def rows(path: Path, tally: ImportCount) -> Iterator[Record]:
    """Every row of the file as a mapping of cells (see `flywheel.files.cells`). What is no object is skipped with its
    reason.

    Raises:
        ImportFailed: unknown ending or unreadable file.
    """
    for source in _sources(path, tally):
        yield source.record


def batches(records: Iterable[Record], size: int | None) -> Iterator[list[Record]]:
    """The records in lists of `size`, the last one shorter; None gives one list of all."""
    iterator = iter(records)
    while batch := list(islice(iterator, size)):
        yield batch


def _sources(path: Path, tally: ImportCount) -> Iterator[Source]:
    try:
        for source in exported.sources(_values(path, _kind(path), tally), tally):
            tally.read += 1
            tally.place = source.place
            if isinstance(source.record, dict):
                yield source
            elif source.record is not None:
                tally.skip("not an object")
    except (UnicodeError, gzip.BadGzipFile, EOFError, csv.Error, LineTooLong) as error:
        raise ImportFailed(f"{path} cannot be read after row {tally.read}: {error}") from error


def _kind(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def _values(path: Path, kind: str, tally: ImportCount) -> Iterator[Placed]:
    if kind == ".parquet":
        yield from _parquet(path)
        return
    if kind not in {*_JSON_LINES, ".csv", ".tsv", ".json"}:
        raise ImportFailed(f"{path}: unknown ending; it must be one of {_KNOWN}")
    with texts.opened(path) as file:
        if kind in _JSON_LINES:
            yield from texts.json_lines(path, file, tally)
        elif kind == ".json":
            yield from texts.json_file(path, file, tally)
        else:
            yield from texts.csv_rows(path, file, tally, tabs=kind == ".tsv")


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # 96-bit times at the resolution of all others: in nanoseconds they would end in the year 2262
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            names = answers.distinct([name.strip() for name in file.schema_arrow.names])
            for batch in file.iter_batches(BATCH):
                columns = [arrow.column(array) for array in batch.columns]
                for row in zip(*columns, strict=True):
                    number += 1
                    yield f"{path.name} row {number}", dict(zip(names, row, strict=True))
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ImportFailed(f"{path} is no Parquet file, or it is damaged after row {number}: {error}") from error


@lru_cache(4_096)
def _name(column: str) -> str:
    """A column's name without blanks around it, in lower case: `Title ` is `title`."""
    return column.strip().casefold()


def _text(row: Record, *names: str) -> str | None:
    """The first of these cells that holds something."""
    return next((found for name in names if (found := _named(name, cells.text, row.get(name))) is not None), None)


def _named(name: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except BadCell as problem:
        raise BadCell(f"{name}: {problem}") from problem


def _nested(row: Record) -> Record:
    """A table's row as UBI has it: empty cells are absent, paths become objects, JSON in a cell is read."""
    record: Record = {}
    for path, cell in row.items():
        if cell is None or cell == "":
            continue
        *outer, last = path.split(".")
        inner = record
        for name in outer:
            held = inner.setdefault(name, {})
            inner = held if isinstance(held, dict) else {}
        value = _json_cell(cell) if path in _NESTED else cell
        held = inner.get(last)
        inner[last] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
    return record


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, str) and cell.lstrip().startswith(("{", "[")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell
