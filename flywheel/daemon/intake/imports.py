"""Stores what people bring: documents, feedback and judgements, each record counted as stored or with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from consumers.decode import Decoder, Undecodable, attempt
from flywheel.daemon.intake import sampled
from flywheel.events import Batch, Coordinates, Document, Event, Query
from flywheel.gates.decision import too_few
from flywheel.operations import Json, JudgedKind, RecordKind
from flywheel.settings.load import Config
from flywheel.store.store import Store

ANNOTATIONS = "annotations"
_NAMED = 20  # rows that a reason names
IMPORTED = "import"  # topic and cluster of what files bring; it keeps no offsets


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


class _LeftOut:
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
    refused = _LeftOut()
    if kind == "documents":
        return refused.answer(len(given), _documents(place, given, refused))
    if kind == "feedback":
        more = _feedback(place, given, refused)
        return refused.answer(len(given), more.pop("stored")) | more
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
    problems = [problem] if (problem := found.problem()) else []
    few = too_few(len(found.decidable), place.config.promotion.min_queries) if kind == "golden" else None
    if few:
        problems.append(f"{len(found.decidable)} queries of this set can decide; {few}")
    return {"decidable": len(found.decidable), "problems": problems}


def _documents(place: Importer, given: list[Json], refused: _LeftOut) -> int:
    now_ms = place.now_ms()
    documents: list[Document] = []
    for row, record in enumerate(given):
        read = attempt(lambda record=record: place.decoder.document(_json(record), now_ms))  # type: ignore[misc]
        if isinstance(read, Undecodable):
            refused.add(str(read), row)
        else:
            documents.append(read)
    changed = place.store.documents.upsert(documents, now_ms)
    if changed < len(documents):
        refused.reasons["not newer than what is stored"] += len(documents) - changed
    return changed


def _feedback(place: Importer, given: list[Json], refused: _LeftOut) -> Json:
    """Store pages and events: `{stored, merged, ignored, unknown_actions}`, the two latter counted by name."""
    batch, ignored, unknown, now_ms = Batch(), Counter[str](), Counter[str](), place.now_ms()
    for row, record in enumerate(given):
        at = Coordinates(IMPORTED, 0, row)
        read = attempt(lambda record=record: place.decoder.feedback(_json(record), now_ms))  # type: ignore[misc]
        match read:
            case Undecodable():
                refused.add(str(read), row)
                continue
            case Event():
                batch.events.append((at, read))
                unknown[read.action_name] += read.kind == "other"
            case Query():
                batch.queries.append((at, read))
        ignored.update(f"{note.field} {note.reason}" for note in read.ignored)
    fresh, known = place.store.stored.without(batch)
    done = place.store.feedback.ingest(fresh, IMPORTED, now_ms)
    completed = place.store.feedback.complete(known.pages, now_ms)
    merged, repeated = done.merged + completed, known.records - completed + done.duplicates
    if repeated:
        refused.reasons["stored already"] += repeated
    if merged:
        refused.reasons["put together with another record of its query_id"] += merged
    return {
        "stored": done.queries + done.events,
        "merged": merged,
        "ignored": dict(ignored),
        "unknown_actions": dict(+unknown),
    }


def _json(record: Json) -> bytes:
    return json.dumps(record, default=str).encode()


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
    answer = _LeftOut().answer(len(given), len(given))
    named: Json = {"name": ANNOTATIONS, "version": version, "queries": len(queries)}
    precision = sampled.precision_of(given)
    if precision is not None:
        place.store.state.set(sampled.STATE, precision, place.now_ms())
        named["precision"] = precision
    return {**answer, **named, **_decides(place, "golden", version)}
