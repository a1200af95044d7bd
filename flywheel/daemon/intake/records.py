"""Records that HTTP brings, what came in lately, and dead letters that are read once more.

All of them go through the one decoder, so that a record means the same wherever it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from consumers.batch import Topics, add
from consumers.decode import Decoder, Undecodable, attempt
from flywheel.daemon.intake.suggest import suggest
from flywheel.events import Batch, Coordinates, DeadLetter
from flywheel.operations import Json
from flywheel.serving.services import Judge, Ruling, TopicKind
from flywheel.settings.load import Kafka
from flywheel.store.feedback.letters import Wanted
from flywheel.store.store import Store

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
