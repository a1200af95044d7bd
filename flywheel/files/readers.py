"""Reads files that people bring (documents, feedback, annotations) row by row, with a reason for each row skipped.

It knows files and shapes. What a record means is decided where it is stored.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from flywheel.files.annotations import judgements
from flywheel.files.lines import MOST_CHARACTERS, LineTooLong, bounded, whole

Record = dict[str, Any]
BATCH = 1_000
_IDS = ("doc_id", "_id", "id")
_TEXTS = ("text", "body", "content")
_JSON_LINES = {".jsonl", ".ndjson"}
_KNOWN = ".jsonl, .ndjson, .csv, .tsv, .parquet (the text ones also .gz)"
csv.field_size_limit(MOST_CHARACTERS)  # the module's own limit is 131,072 characters, and documents are longer


class ImportFailed(ValueError):  # noqa: N818 - reads as what happened
    """A file that cannot be read at all. The message names it and what was expected."""


class ImportCount:
    """Rows read, and why some were skipped."""

    def __init__(self) -> None:
        self.read = 0
        self.reasons: Counter[str] = Counter()

    def skip(self, reason: str) -> None:
        """Count one row that brings nothing."""
        self.reasons[reason] += 1


def read_documents(path: Path, tally: ImportCount) -> Iterator[Record]:
    """Documents of a JSONL, CSV, TSV or Parquet file as `{doc_id, title, text, updated_at?, deleted?}`.

    The id may stand as `doc_id`, `_id` or `id`, the text as `text`, `body` or `content`.

    Raises:
        ImportFailed: unknown ending, unreadable file, or a first row without an id.
    """
    for row in rows(path, tally):
        doc_id = _first(row, _IDS)
        if doc_id is None and tally.read == 1:
            raise ImportFailed(f"{path} has no doc_id (nor _id, id); it has {', '.join(map(str, row)) or 'nothing'}")
        text = _first(row, _TEXTS)
        title = row.get("title")
        deleted = _truth(row.get("deleted"))
        if doc_id is None:
            tally.skip("no doc_id")
        elif not deleted and not (text or title):
            tally.skip("neither title nor text")
        else:
            record = {"doc_id": str(doc_id), "title": str(title or ""), "text": str(text or ""), "deleted": deleted}
            if row.get("updated_at") not in (None, ""):
                record["updated_at"] = row["updated_at"]
            yield record


def read_feedback(path: Path, tally: ImportCount) -> Iterator[Record]:
    """UBI queries and events, one JSON object a line, also in OpenSearch's bulk form (its action lines are dropped)."""
    for row in rows(path, tally):
        if len(row) == 1 and next(iter(row)) in {"index", "create"}:
            tally.read -= 1  # an action line is no row
        elif "action_name" in row or "user_query" in row:
            yield row
        else:
            tally.skip("neither a UBI query (user_query) nor an event (action_name)")


def read_annotations(path: Path, tally: ImportCount) -> Iterator[Record]:
    """One `{query, doc_id, grade}` a pair. See `flywheel.files.annotations.judgements` for shapes and disagreement."""
    yield from judgements(rows(path, tally), tally.skip)


def rows(path: Path, tally: ImportCount) -> Iterator[Record]:
    """Every row of the file as a mapping. What is no object is skipped with its reason.

    Raises:
        ImportFailed: unknown ending or unreadable file.
    """
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    try:
        for value in _values(path, kind.lower(), tally):
            tally.read += 1
            if isinstance(value, dict):
                yield value
            elif value is not None:
                tally.skip("not an object")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error, LineTooLong) as error:
        raise ImportFailed(f"{path} cannot be read after row {tally.read}: {error}") from error


def batches(records: Iterable[Record], size: int | None) -> Iterator[list[Record]]:
    """The records in lists of `size`, the last one shorter; None gives one list of all."""
    iterator = iter(records)
    while batch := list(islice(iterator, size)):
        yield batch


def _values(path: Path, kind: str, tally: ImportCount) -> Iterator[Any]:
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind in _JSON_LINES:
        with _text(path) as lines:
            for line in bounded(lines):
                if line.strip():
                    yield _parsed(line, tally)
    elif kind in {".csv", ".tsv"}:
        with _text(path) as lines:
            yield from csv.DictReader(bounded(lines), delimiter="\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        with _text(path) as lines:
            yield from _array(path, lines)
    else:
        raise ImportFailed(f"{path}: unknown ending; it must be one of {_KNOWN}")


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from map(_as_json, batch.to_pylist())
    except pa.ArrowException as error:
        raise ImportFailed(f"{path} is no Parquet file: {error}") from error


def _as_json(value: Any) -> Any:
    """Parquet's values as JSON would have them. Moments are ISO 8601; a moment without a zone is UTC."""
    match value:
        case dict():
            return {name: _as_json(inner) for name, inner in value.items()}
        case list():
            return [_as_json(inner) for inner in value]
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date() | Decimal():
            return str(value)
        case _:
            return value


def _array(path: Path, lines: TextIO) -> Iterator[Any]:
    try:
        value = json.loads(whole(lines))
    except LineTooLong:
        raise
    except ValueError as error:
        raise ImportFailed(f"{path} is no JSON: {error}") from error
    yield from value if isinstance(value, list) else [value]


def _parsed(line: str, tally: ImportCount) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        tally.skip("not JSON")
        return None


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    # utf-8-sig: spreadsheets write a byte order mark; newline="": the csv module reads line ends itself
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file


def _first(row: Record, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _truth(value: Any) -> bool:
    return value.strip().lower() in {"true", "1", "yes"} if isinstance(value, str) else bool(value)
