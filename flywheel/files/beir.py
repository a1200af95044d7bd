"""Reads collections in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`, each plain or `.gz`.

It writes nothing, streams the corpus, and names file and line of what it cannot read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

_NAMES = {"corpus": "corpus.jsonl", "queries": "queries.jsonl"}


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
    """The queries of one split that have judgements: `judgements[i]` maps doc_id to grade for `texts[i]`."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    judgements: tuple[dict[str, float], ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_corpus(folder: Path) -> Iterator[Passage]:
    """Every document, in the order of the file.

    Raises:
        BeirError: no corpus, or a line without `_id` and `text`.
    """
    for where, record in _records(_find(folder, _NAMES["corpus"])):
        yield Passage(_identity(record, where), str(record.get("title") or ""), _text(record, where))


def read_queries(folder: Path) -> dict[str, str]:
    """Query id -> text, of every split.

    Raises:
        BeirError: no queries, or a line without `_id` and `text`.
    """
    return {
        _identity(record, where): _text(record, where) for where, record in _records(_find(folder, "queries.jsonl"))
    }


def read_qrels(folder: Path, split: str) -> dict[str, dict[str, float]]:
    """Query id -> doc id -> grade. A header line and TREC's second column are allowed.

    Raises:
        BeirError: no such split (the message lists those there are), or an unreadable line.
    """
    present = splits(folder)
    if split not in present:
        raise BeirError(f"{folder} has no split {split!r}; it has {', '.join(present) or 'no qrels/*.tsv at all'}")
    path = _find(folder / "qrels", f"{split}.tsv")
    judgements: dict[str, dict[str, float]] = {}
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            parsed = _judgement(line)
            if parsed is not None:
                query_id, doc_id, grade = parsed
                judgements.setdefault(query_id, {})[doc_id] = grade
            elif number > 1:  # the first line may be a header
                raise BeirError(f"{path}:{number}: expected query-id, corpus-id and score, found {line.strip()[:80]!r}")
    return judgements


def read_split(folder: Path, split: str) -> Judged:
    """The judged queries of one split, in the order of `queries.jsonl`.

    Raises:
        BeirError: see `read_queries` and `read_qrels`; or not one judged query has a text.
    """
    judgements = read_qrels(folder, split)
    chosen = [(key, text) for key, text in read_queries(folder).items() if key in judgements]
    if not chosen:
        raise BeirError(f"no query of {folder / 'qrels' / split} stands in {folder / 'queries.jsonl'}")
    ids, texts = zip(*chosen, strict=True)
    return Judged(ids, texts, tuple(judgements[key] for key in ids))


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


def _open(path: Path) -> TextIO:
    # utf-8-sig: some editors write a byte order mark, which would spoil the first line
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                raise BeirError(f"{where}: no JSON object: {error}") from error
            if not isinstance(record, dict):
                raise BeirError(f"{where}: expected a JSON object, found {type(record).__name__}")
            yield where, record


def _identity(record: dict[str, Any], where: str) -> str:
    value = record.get("_id")
    if value is None or value == "":
        raise BeirError(f"{where}: no _id; it has {', '.join(record) or 'nothing'}")
    return str(value)


def _text(record: dict[str, Any], where: str) -> str:
    if not isinstance(record.get("text"), str):
        raise BeirError(f"{where}: no text; it has {', '.join(record)}")
    return str(record["text"])


def _judgement(line: str) -> tuple[str, str, float] | None:
    parts = line.rstrip("\r\n").split("\t")
    if len(parts) < 3:
        parts = line.split()
    if len(parts) == 4:  # TREC: query, iteration, document, grade
        parts = [parts[0], parts[2], parts[3]]
    if len(parts) != 3:
        return None
    try:
        return parts[0], parts[1], float(parts[2])
    except ValueError:
        return None
