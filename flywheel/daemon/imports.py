"""Stores what people bring: documents, feedback and judgements, each record counted as stored or with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from consumers.decode import Decoder, Undecodable
from flywheel.events import Batch, Coordinates, Document
from flywheel.operations import Json, JudgedKind, RecordKind
from flywheel.settings.load import Config
from flywheel.store.store import Store

ANNOTATIONS = "annotations"
_NAMED = 20  # rows that a reason names
# whatever a decoder trips over is this record's fault, and stops no other
_REFUSALS = (ValueError, TypeError, ArithmeticError, RecursionError)


class Importer(Protocol):
    """Where records go; `flywheel.daemon.local.Installation` fulfils it."""

    @property
    def config(self) -> Config: ...
    @property
    def store(self) -> Store: ...
    @property
    def decoder(self) -> Decoder: ...
    @property
    def now_ms(self) -> Callable[[], int]: ...


def _reason(problem: Exception) -> str:
    return str(problem) if isinstance(problem, Undecodable) else f"unreadable: {str(problem)[:200]}"


class _Refused:
    """Why records were left out, and which: `rows` has the first twenty of each reason, counted from 0."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.rows: dict[str, list[int]] = {}

    def add(self, reason: str, row: int) -> None:
        self.reasons[reason] += 1
        rows = self.rows.setdefault(reason, [])
        if len(rows) < _NAMED:
            rows.append(row)

    def answer(self, read: int, stored: int) -> Json:
        skipped = self.reasons.total()
        return {"read": read, "stored": stored, "skipped": skipped, "reasons": dict(self.reasons), "rows": self.rows}


def records(place: Importer, kind: RecordKind, given: list[Json]) -> Json:
    """`{read, stored, skipped, reasons, rows}`: `rows` names records of each reason by their place in the list."""
    refused = _Refused()
    if kind == "documents":
        return refused.answer(len(given), _documents(place, given, refused))
    if kind == "feedback":
        return refused.answer(len(given), _feedback(place, given, refused))
    return _annotations(place, given)


def judged(place: Importer, kind: JudgedKind, name: str, queries: list[Json], judgements: list[Json]) -> Json:
    """Store a judged set. `problems` says what it cannot decide with the documents that are there."""
    texts = {str(query["id"]): str(query["text"]) for query in queries}
    rows = [
        (str(item["query_id"]), str(item["doc_id"]), float(item["grade"]))
        for item in judgements
        if str(item["query_id"]) in texts
    ]
    relevant = {query_id for query_id, _, grade in rows if grade > 0}
    usable = {query_id: text for query_id, text in texts.items() if query_id in relevant}
    singular = "golden" if kind == "golden" else "anchor"
    version = place.store.golden.add(singular, name, usable, rows, place.now_ms())
    missing = len(texts) - len(usable)
    reasons = {"a query without a relevant document": missing} if missing else {}
    answer = {"read": len(texts), "stored": len(usable), "skipped": missing, "reasons": reasons}
    return {**answer, "name": name, "version": version, **_decides(place, singular, version)}


def _decides(place: Importer, kind: str, version: str) -> Json:
    """What the set can decide as it stands: queries that the collection has a relevant document of, and problems."""
    found = place.store.golden.coverage().get(version)
    if found is None:
        return {"decidable": 0, "problems": []}
    least, problems = place.config.promotion.min_queries, [problem] if (problem := found.problem()) else []
    if kind == "golden" and len(found.decidable) < least:
        problems.append(
            f"{len(found.decidable)} queries of this set can decide; below {least} in all golden sets "
            "(promotion.min_queries) nothing is promoted"
        )
    return {"decidable": len(found.decidable), "problems": problems}


def _documents(place: Importer, given: list[Json], refused: _Refused) -> int:
    now_ms = place.now_ms()
    documents: list[Document] = []
    for row, record in enumerate(given):
        try:
            documents.append(place.decoder.document(json.dumps(record, default=str).encode(), now_ms))
        except _REFUSALS as problem:
            refused.add(_reason(problem), row)
    changed = place.store.documents.upsert(documents, now_ms)
    if changed < len(documents):
        refused.reasons["not newer than what is stored"] += len(documents) - changed
    return changed


def _feedback(place: Importer, given: list[Json], refused: _Refused) -> int:
    batch, decoder, now_ms = Batch(), place.decoder, place.now_ms()
    for row, record in enumerate(given):
        at, payload = Coordinates("import", 0, row), json.dumps(record).encode()
        try:
            if "action_name" in record:
                batch.events.append((at, decoder.event(payload)))
            else:
                batch.queries.append((at, decoder.query(payload, now_ms)))
        except _REFUSALS as problem:
            refused.add(_reason(problem), row)
    fresh, known = place.store.stored.without(batch)
    done = place.store.feedback.ingest(fresh, "import", now_ms)
    if known + done.duplicates:
        refused.reasons["stored already"] += known + done.duplicates
    return done.queries + done.events


def _annotations(place: Importer, given: list[Json]) -> Json:
    """Add to the golden set `annotations` as a new version; a pair that is judged again takes its new grade."""
    golden = place.store.golden
    earlier = [judged for judged in golden.current("golden") if judged.name == ANNOTATIONS]
    grades = {
        (query, doc_id): grade
        for judged in earlier
        for query, graded in zip(judged.queries, judged.judgements, strict=True)
        for doc_id, grade in graded.items()
    }
    grades |= {(str(item["query"]), str(item["doc_id"])): float(item["grade"]) for item in given}
    queries = {query: query for query, _ in grades}
    rows = [(query, doc_id, grade) for (query, doc_id), grade in grades.items()]
    version = golden.add("golden", ANNOTATIONS, queries, rows, place.now_ms())
    answer = _Refused().answer(len(given), len(given))
    named = {"name": ANNOTATIONS, "version": version, "queries": len(queries)}
    return {**answer, **named, **_decides(place, "golden", version)}
