"""Reads collections in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`, each plain or `.gz`.

It writes nothing, streams the corpus, and names file and line of what it cannot read. A judgement that is not used is
counted with its place, never dropped in silence.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.files import cells
from flywheel.files.cells import BadCell
from flywheel.files.skipped import ImportCount, ImportFailed
from flywheel.files.texts import opened

_NAMES = {"corpus": "corpus.jsonl", "queries": "queries.jsonl"}
# what collections call the columns of their judgements; a first line that has none of them is no header
_COLUMNS = {
    "query": {"query-id", "query", "qid", "query-no", "topic", "topic-id"},
    "document": {"corpus-id", "doc-id", "docid", "document", "document-id", "pid", "docno"},
    "grade": {"score", "grade", "relevance", "rel", "rating", "label", "judgment", "judgement"},
}
_TREC = re.compile("Q?0")  # TREC's second column, which says nothing
_EXPECTED = "expected query-id, corpus-id and score"


class BeirError(ValueError):
    """A folder that is no BEIR collection. The message names the file, the line, and what was expected there."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A document of the corpus. `content` is what an encoder reads."""

    doc_id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """Title and text with one space between, like `flywheel.events.Document.content`."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Judged:
    """The queries of one split that have judgements: `judgements[i]` maps doc_id to grade for `texts[i]`.

    `unused` has read every judged query and skipped those that are not here; `rows` has done so with the judgements.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    judgements: tuple[dict[str, float], ...]
    unused: ImportCount = field(default_factory=ImportCount, compare=False, repr=False)
    rows: ImportCount = field(default_factory=ImportCount, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def read_corpus(folder: Path) -> Iterator[Passage]:
    """Every document, in the order of the file.

    Raises:
        BeirError: no corpus, or a line without `_id` and `text`.
    """
    for where, record in _records(_find(folder, _NAMES["corpus"])):
        yield Passage(_identity(record, where), _words(record, "title", where) or "", _text(record, where))


def read_queries(folder: Path, without: dict[str, tuple[str, str]] | None = None) -> dict[str, str]:
    """Query id -> text, of every split; those whose text is empty or lost go to `without`, with place and reason.

    Raises:
        BeirError: no queries, or a line without `_id` and `text`.
    """
    texts: dict[str, str] = {}
    for where, record in _records(_find(folder, _NAMES["queries"])):
        query_id = _identity(record, where)
        if "text" not in record:
            raise BeirError(f"{where}: no text; it has {', '.join(record)}")
        try:
            text = (cells.text(record["text"]) or "").strip()
            problem = "a query without words"
        except BadCell as error:
            text, problem = "", f"a query's text: {error}"
        if text:
            texts[query_id] = str(record["text"])
        elif without is not None:
            without[query_id] = (where, problem)
    return texts


def read_qrels(
    folder: Path, split: str, tally: ImportCount | None = None, places: dict[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Query id -> doc id -> grade. A header line and TREC's second column are allowed.

    `tally` counts the rows and those that are not used; `places` takes where each query is judged first.

    Raises:
        BeirError: no such split (the message lists those there are), or an unreadable line.
    """
    tally = ImportCount() if tally is None else tally
    present = splits(folder)
    if split not in present:
        raise BeirError(f"{folder} has no split {split!r}; it has {', '.join(present) or 'no qrels/*.tsv at all'}")
    path = _find(folder / "qrels", f"{split}.tsv")
    judgements: dict[str, dict[str, float]] = {}
    order: tuple[int, ...] | None = None
    for number, line in _lines(path):
        parts = _parts(line)
        if order is None:
            order = _header(parts)
            if order is not None:
                continue
            order = ()
        tally.read += 1
        query_id, doc_id, grade = _judgement(parts, order, f"{path}:{number}")
        graded = judgements.setdefault(query_id, {})
        place = f"{path.name}:{number}"
        if places is not None:
            places.setdefault(query_id, place)
        if graded.get(doc_id, grade) != grade:
            tally.skip("judged again with another grade; the last one counts", place)
        graded[doc_id] = grade
    return judgements


def read_split(folder: Path, split: str) -> Judged:
    """The judged queries of one split, in the order of `queries.jsonl`.

    Raises:
        BeirError: see `read_queries` and `read_qrels`; or not one judged query has a text.
    """
    rows, unused = ImportCount(), ImportCount()
    places: dict[str, str] = {}
    without: dict[str, tuple[str, str]] = {}
    judgements, texts = read_qrels(folder, split, rows, places), read_queries(folder, without)
    unused.read = len(judgements)
    for query_id in (key for key in judgements if key not in texts):
        place, reason = without.get(query_id, (places[query_id], f"a judged query that {_NAMES['queries']} lacks"))
        unused.skip(reason, place.rpartition("/")[2])
    chosen = [(key, text) for key, text in texts.items() if key in judgements]
    if not chosen:
        reasons = "; ".join(f"{reason} ({unused.places[reason][0]})" for reason in unused.reasons)
        raise BeirError(f"no query of {folder / 'qrels' / split} has a text in {folder / _NAMES['queries']}: "
                        f"{reasons or 'there is no judgement'}")  # fmt: skip
    ids, words = zip(*chosen, strict=True)
    return Judged(ids, words, tuple(judgements[key] for key in ids), unused, rows)


def splits(folder: Path) -> list[str]:
    """Names of the splits that have judgements."""
    return sorted({path.name.partition(".tsv")[0] for path in (folder / "qrels").glob("*.tsv*")})


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise BeirError(
        f"{folder / name} (or .gz) is missing: a BEIR folder has corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, by number.

    Raises:
        BeirError: a line in another encoding than UTF-8 (or UTF-16 with its mark).
    """
    number = 0
    try:
        with opened(path) as file:
            for number, line in enumerate(file, 1):
                if lost := re.search("[\udc80-\udcff]", line):
                    byte = ord(lost[0]) - 0xDC00
                    raise BeirError(f"{path}:{number}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")
                if line.strip():
                    yield number, line
    except (UnicodeError, gzip.BadGzipFile, EOFError) as error:
        raise BeirError(f"{path}:{number + 1}: cannot be read: {error}") from error
    except ImportFailed as error:
        raise BeirError(str(error)) from error


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BeirError(f"{where}: no JSON object: {error}") from error
        if not isinstance(record, dict):
            raise BeirError(f"{where}: expected a JSON object, found {type(record).__name__}")
        yield where, record


def _identity(record: dict[str, Any], where: str) -> str:
    value = _words(record, "_id", where)
    if value is None:
        raise BeirError(f"{where}: no _id; it has {', '.join(record) or 'nothing'}")
    return value


def _text(record: dict[str, Any], where: str) -> str:
    if record.get("text") is None:
        raise BeirError(f"{where}: no text; it has {', '.join(record)}")
    return _words(record, "text", where) or ""


def _words(record: dict[str, Any], name: str, where: str) -> str | None:
    try:
        return cells.text(record.get(name))
    except BadCell as problem:
        raise BeirError(f"{where}: {name}: {problem}") from problem


def _parts(line: str) -> list[str]:
    parts = [part.strip() for part in line.rstrip("\r\n").split("\t")]
    return parts if len(parts) >= 3 else line.split()


def _header(parts: list[str]) -> tuple[int, ...] | None:
    """The columns of query, document and grade if this line names them; a judgement is no header."""
    names = [part.casefold().replace("_", "-") for part in parts]
    places = [next((place for place, name in enumerate(names) if name in known), None) for known in _COLUMNS.values()]
    found = tuple(place for place in places if place is not None)
    return found if len(found) == len(places) else None


def _judgement(parts: list[str], order: tuple[int, ...], where: str) -> tuple[str, str, float]:
    """One judgement by the header's columns; without a header by BEIR's three or TREC's four.

    Raises:
        BeirError: another number of columns, an empty id, or a grade that is no number.
    """
    found = f"{where}: {_EXPECTED}, found {' '.join(parts)[:80]!r}"
    if not order:
        trec = len(parts) == 4 and _TREC.fullmatch(parts[1]) is not None
        if len(parts) != 3 and not trec:
            raise BeirError(f"{found}; name the columns in a first line if there are more")
        order = (0, 2, 3) if trec else (0, 1, 2)
    if len(parts) <= max(order):
        raise BeirError(found)
    query_id, doc_id, given = (parts[place] for place in order)
    try:
        grade = float(given)
    except ValueError:
        grade = math.nan
    if not (query_id and doc_id and math.isfinite(grade)):
        raise BeirError(found)
    return query_id, doc_id, grade
