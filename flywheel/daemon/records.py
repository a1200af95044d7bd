"""Records that do not come from the broker: of files and of HTTP, and dead letters that are read once more.

All of them go through the one decoder, so that a record means the same wherever it comes from.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from consumers.batch import Topics, add
from consumers.decode import Decoder, Undecodable, attempt
from flywheel.daemon.suggest import suggest
from flywheel.events import Batch, Coordinates, DeadLetter, Document, Event, Query
from flywheel.operations import Json
from flywheel.serving.services import Judge, Ruling, TopicKind
from flywheel.settings.load import Kafka
from flywheel.store.feedback.letters import Wanted
from flywheel.store.store import Store

IMPORTED = "import"  # topic and cluster of what files bring; it keeps no offsets
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class _LetterMessage:
    """A dead letter as the message that it was."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


class Records:
    """Reads records into the store, and says what became of them."""

    def __init__(self, store: Store, decoder: Decoder, kafka: Kafka) -> None:
        self._store, self._decoder, self._topics = store, decoder, Topics.of(kafka)

    def import_documents(self, records: list[Json], now_ms: int, reasons: Counter[str]) -> int:
        """Store documents. Returns how many rows changed; `reasons` says why the others brought nothing."""
        documents: list[Document] = []
        for record in records:
            read = attempt(lambda record=record: self._decoder.document(_json(record), now_ms))  # type: ignore[misc]
            if isinstance(read, Undecodable):
                reasons[str(read)] += 1
            else:
                documents.append(read)
        changed = self._store.documents.upsert(documents, now_ms)
        if changed < len(documents):
            reasons["not newer than what is stored"] += len(documents) - changed
        return changed

    def import_feedback(self, records: list[Json], now_ms: int, reasons: Counter[str]) -> Json:
        """Store pages and events: `{stored, merged, ignored, unknown_actions}`, the two latter counted by name."""
        batch, ignored, unknown = Batch(), Counter[str](), Counter[str]()
        for number, record in enumerate(records):
            at = Coordinates(IMPORTED, 0, number)
            read = attempt(lambda record=record: self._decoder.feedback(_json(record), now_ms))  # type: ignore[misc]
            match read:
                case Undecodable():
                    reasons[str(read)] += 1
                    continue
                case Event():
                    batch.events.append((at, read))
                    unknown[read.action_name] += read.kind == "other"
                case Query():
                    batch.queries.append((at, read))
            ignored.update(f"{note.field} {note.reason}" for note in read.ignored)
        done = self._store.feedback.ingest(batch, IMPORTED, now_ms)
        if done.duplicates:
            reasons["stored already"] += done.duplicates
        if done.merged:
            reasons["put together with another record of its query_id"] += done.merged
        return {
            "stored": done.queries + done.events,
            "merged": done.merged,
            "ignored": dict(ignored),
            "unknown_actions": dict(+unknown),
        }

    def arrivals(self, minutes: float, now_ms: int) -> Json:
        """What came in lately: `{since_minutes, arrivals, unknown_actions, suggestion}`."""
        since_ms = now_ms - int(minutes * _MINUTE_MS)
        unknown = self._store.arrivals.unknown(since_ms)
        return {
            "since_minutes": minutes,
            "arrivals": self._store.arrivals.since(since_ms),
            "unknown_actions": unknown,
            "suggestion": suggest(unknown),
        }

    def dead_letters(self, wanted: Wanted, limit: int) -> Json:
        """Those that wait, by topic, field and reason: `{waiting, groups}`."""
        letters = self._store.dead_letters
        return {"waiting": letters.waiting(), "groups": letters.summary(wanted, limit)}

    def replay(self, wanted: Wanted, now_ms: int) -> Json:
        """Read dead letters again, each once: `{stored, repeated, still, reasons}`."""

        def read(batch: Batch, at: Coordinates, letter: DeadLetter) -> str | None:
            if at.topic not in self._topics.names:
                return f"topic {at.topic} is none of those that are read now"
            message = _LetterMessage(
                at.topic, at.partition, at.offset, letter.key, letter.payload or None, letter.sent_ms or 0
            )
            add(batch, message, self._decoder, self._topics, now_ms)
            return batch.dead_letters.pop()[1].reason if batch.dead_letters else None

        done = self._store.dead_letters.replay(read, wanted, now_ms)
        return {
            "stored": done.stored,
            "repeated": done.repeated,
            "still": done.reasons.total(),
            "reasons": dict(done.reasons),
        }


def judge(decoder: Decoder) -> Judge:
    """What ingestion will make of a record, asked before it is on the broker."""

    def read(kind: TopicKind, record: bytes, now_ms: int | None) -> Ruling:
        how = decoder.query if kind == "queries" else decoder.event
        found = attempt(lambda: how(record, now_ms))
        if isinstance(found, Undecodable):
            return Ruling(refused=str(found))
        return Ruling(query_id=found.query_id, ignored=tuple((note.field, note.reason) for note in found.ignored))

    return read


def _json(record: Any) -> bytes:
    return json.dumps(record, default=str).encode()
