"""The messages that could not be read: by reason, one by one, and read once more after a mend.

A message that is replayed is stored and marked in one transaction, so that it is stored once, whatever happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flywheel.events import Batch, Coordinates, DeadLetter
from flywheel.store.feedback.feedback import Feedback
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import millis, moment

REPLAYED = "replay"  # the cluster of messages that are read again; it keeps no offsets
_CHUNK = 1_000
_SAMPLE_BYTES = 400
_WANTED = """
    replayed_at IS NULL AND ($reason IS NULL OR contains(lower(reason), lower($reason)))
    AND ($field IS NULL OR field = $field) AND ($topic IS NULL OR topic = $topic)
"""
_SUMMARY = f"""
    SELECT topic, field, reason, count(*) AS letters, min(received_at) AS first_at, max(received_at) AS last_at,
           arg_max({{'topic': topic, 'partition': "partition", 'offset': "offset"}}, received_at) AS latest,
           arg_max(payload, received_at)[:{_SAMPLE_BYTES}] AS sample
    FROM dead_letters WHERE {_WANTED} GROUP BY topic, field, reason ORDER BY letters DESC, last_at DESC LIMIT $limit
"""  # noqa: S608 - constants
_ONE = """
    SELECT topic, "partition", "offset", reason, field, received_at, replayed_at, message_key AS key, payload
    FROM dead_letters WHERE topic = ? AND "partition" = ? AND "offset" = ? ORDER BY received_at
"""
_NEXT = f"""
    SELECT rowid, topic, "partition", "offset", payload, reason, received_at, field, message_key, sent_at
    FROM dead_letters WHERE rowid > $after AND {_WANTED} ORDER BY rowid LIMIT {_CHUNK}
"""  # noqa: S608 - constants
_MARK = "UPDATE dead_letters SET replayed_at = ? WHERE rowid IN (SELECT unnest(?::BIGINT[]))"

Reader = Callable[[Batch, Coordinates, DeadLetter], str | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: those whose reason contains a text, of one field, of one topic. None leaves it open."""

    reason: str | None = None
    field: str | None = None
    topic: str | None = None

    def parameters(self) -> dict[str, Any]:
        """As the statements of this module take them."""
        return {"reason": self.reason, "field": self.field, "topic": self.topic}


@dataclass(slots=True)
class Replayed:
    """What became of dead letters that were read again: how many are stored now, were stored already or still wait."""

    stored: int = 0
    repeated: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class DeadLetters:
    """The table of that name. Those that were replayed stay, marked, and are neither listed nor read again."""

    def __init__(self, database: Database, feedback: Feedback) -> None:
        self._database = database
        self._feedback = feedback

    def summary(self, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
        """By topic, field and reason, the most frequent first: how many wait, since when, where the latest is, and the
        beginning of its bytes."""
        with self._database.read() as con:
            return _rows(con.execute(_SUMMARY, wanted.parameters() | {"limit": limit}))

    def at(self, place: Coordinates) -> list[dict[str, Any]]:
        """The dead letters of one place on the broker: one, or one for each cluster that there was."""
        with self._database.read() as con:
            return _rows(con.execute(_ONE, [place.topic, place.partition, place.offset]))

    def waiting(self) -> int:
        """How many were not replayed."""
        with self._database.read() as con:
            return int(con.execute("SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL").fetchall()[0][0])

    def replay(self, read: Reader, wanted: Wanted, now_ms: int) -> Replayed:
        """Read the wanted ones again, oldest first.

        `read` puts a letter's record into the batch and returns None, or returns why it still cannot be read. Each
        thousand is one transaction. After a crash between two of them the next replay goes on with the rest.

        Raises:
            StoreError: the database refused; what was stored until then is marked.
        """
        done, after = Replayed(), -1
        while True:
            with self._database.write() as con:
                found = con.execute(_NEXT, wanted.parameters() | {"after": after}).fetchall()
                if not found:
                    return done
                after = found[-1][0]
                batch, readable = Batch(), []
                for rowid, *row in found:
                    at, letter = Coordinates(*row[:3]), _letter(row[3:])
                    reason = read(batch, at, letter)
                    if reason is None:
                        readable.append(rowid)
                    else:
                        done.reasons[reason] += 1
                con.execute(_MARK, [moment(now_ms), readable])
                # last, because it remembers the ids once it has written: only the commit is left to fail
                answer = self._feedback.ingest(batch, REPLAYED, now_ms)
            done.repeated += answer.duplicates + answer.superseded
            done.stored += len(batch) - answer.duplicates - answer.superseded


def _letter(row: list[Any]) -> DeadLetter:
    payload, reason, received_at, field_name, key, sent_at = row
    return DeadLetter(payload, reason, millis(received_at) or 0, field_name, key, millis(sent_at))


def _rows(result: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in result.description]
    return [dict(zip(names, map(_plain, row), strict=True)) for row in result.fetchall()]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="milliseconds") + "Z"
    return dict(value) if isinstance(value, Mapping) else value
