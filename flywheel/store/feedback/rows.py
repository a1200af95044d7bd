"""Turns records into Arrow tables with the columns of the database, in its order. Arrow is the fast way in.

It refuses no value. One that a column cannot hold becomes the nearest that it can. One hostile number or half a
surrogate pair must not stop the batch that it came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from flywheel.events import Batch, Coordinates, DeadLetter, Document, Event, Query, normalise_query

# 9999-12-31T23:59:59.999Z, the last moment of Python's and most other calendars
LAST_MS = 253_402_300_799_999
SLOT_MS = 600_000  # ten minutes: what `ignored_fields` and the view `arrivals` count by
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

_TIME = pa.timestamp("ms")


def _texts(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]


_SOURCE = [*_texts("topic"), pa.field("partition", pa.int32()), pa.field("offset", pa.int64())]
_PERSON = _texts("client_key", "user_key", "session_id")
_STORED = [pa.field("ingested_at", _TIME), pa.field("batch", pa.int64())]
_SENDER = _texts("application", "attributes")
QUERIES = pa.schema(
    [
        *_texts("query_id", "query_key", "text"),
        pa.field("ts", _TIME),
        *_PERSON,
        pa.field("hit_ids", pa.list_(pa.string())),
        *_texts("model_version", "experiment_id", "arm"),
        pa.field("propensities", pa.list_(pa.float32())),
        pa.field("teams", pa.list_(pa.string())),
        pa.field("explored", pa.list_(pa.int16())),
        pa.field("latency_ms", pa.float32()),
        *_SOURCE,
        *_STORED,
        *_SENDER,
        *_texts("sorted_by"),
        pa.field("filtered", pa.bool_()),
        pa.field("sponsored", pa.list_(pa.string())),
        *_texts("layout"),
        pa.field("fair_pair", pa.int16()),
    ]
)
FEEDBACK = pa.schema(
    [
        *_texts("event_id", "kind", "action_name", "query_id", "doc_id"),
        pa.field("rank", pa.int32()),
        pa.field("dwell_ms", pa.int64()),
        pa.field("ts", _TIME),
        *_PERSON,
        *_SOURCE,
        *_STORED,
        *_SENDER,
    ]
)
DOCUMENTS = pa.schema(
    [
        *_texts("doc_id", "title", "text", "content_hash"),
        pa.field("deleted", pa.bool_()),
        pa.field("updated_at", _TIME),
        pa.field("ingested_at", _TIME),
    ]
)
DEAD_LETTERS = pa.schema(
    [
        *_SOURCE,
        pa.field("payload", pa.binary()),
        *_texts("reason"),
        pa.field("received_at", _TIME),
        *_texts("field"),
        pa.field("message_key", pa.binary()),
        pa.field("sent_at", _TIME),
    ]
)
IGNORED = pa.schema(
    [
        pa.field("slot", _TIME),
        *_texts("topic", "application", "field", "reason"),
        pa.field("records", pa.int64()),
        *_texts("sample"),
        pa.field("last_at", _TIME),
    ]
)


def clamp_ms(ts_ms: int) -> int:
    """The nearest time that a calendar holds."""
    return min(max(ts_ms, 0), LAST_MS)


def queries(records: Sequence[tuple[Coordinates, Query]], now_ms: int, batch: int) -> pa.Table:
    """Pages as rows of `queries`."""
    return _table(
        (
            (
                *(q.query_id, normalise_query(q.text), q.text, clamp_ms(q.timestamp_ms)),
                *(q.client_key, q.user_key, q.session_id, list(q.hit_ids), q.model_version, q.experiment_id, q.arm),
                *(q.propensities, q.teams, _ranks(q.explored), q.latency_ms, *_source(at), now_ms, batch),
                *(q.application, q.attributes),
                *(q.sorted_by, q.filtered or None, list(q.sponsored) or None, q.layout, q.fair_pair),
            )
            for at, q in records
        ),
        QUERIES,
    )


def feedback(records: Sequence[tuple[Coordinates, Event]], now_ms: int, batch: int) -> pa.Table:
    """Events as rows of `feedback`."""
    return _table(
        (
            (
                *(e.event_id, e.kind.value, e.action_name, e.query_id, e.doc_id),
                *(_within(e.rank, _INT32), _within(e.dwell_ms, _INT64), clamp_ms(e.timestamp_ms)),
                *(e.client_key, e.user_key, e.session_id, *_source(at), now_ms, batch, e.application, e.attributes),
            )
            for at, e in records
        ),
        FEEDBACK,
    )


def documents(records: Iterable[Document], now_ms: int) -> pa.Table:
    """Document versions as rows of `documents`, without the number of their change."""
    return _table(
        (
            (d.doc_id, d.title, d.text, content_hash(d.content), d.deleted, clamp_ms(d.updated_at_ms), now_ms)
            for d in records
        ),
        DOCUMENTS,
    )


def dead_letters(records: Sequence[tuple[Coordinates, DeadLetter]]) -> pa.Table:
    """Unreadable messages as rows of `dead_letters`."""
    return _table(
        (
            (
                *(*_source(at), letter.payload, letter.reason, clamp_ms(letter.received_at_ms), letter.field),
                *(letter.key, None if letter.sent_ms is None else clamp_ms(letter.sent_ms)),
            )
            for at, letter in records
        ),
        DEAD_LETTERS,
    )


def ignored(batch: Batch, now_ms: int) -> pa.Table:
    """The fields that were left out of a batch's records as rows of `ignored_fields`, equal ones as one."""
    counts: dict[tuple[str, str, str, str], tuple[int, str]] = {}
    for records in (batch.queries, batch.events, batch.documents):
        for at, record in records:
            for note in record.ignored:
                key = (at.topic, getattr(record, "application", None) or "", note.field, note.reason)
                counts[key] = (counts.get(key, (0, ""))[0] + 1, note.sample)
    slot = now_ms - now_ms % SLOT_MS
    return _table(((slot, *key, number, sample, now_ms) for key, (number, sample) in counts.items()), IGNORED)


def content_hash(content: str) -> str:
    """32 hex digits (128 bits of BLAKE2b) of what an encoder reads."""
    return hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _table(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # half a surrogate pair; only then is each value checked
        return pa.array([_encodable(value) for value in values], kind)


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


def _source(at: Coordinates) -> tuple[str, int, int]:
    return at.topic, at.partition, at.offset


def _within(value: int | None, bound: int) -> int | None:
    return None if value is None else min(max(value, -bound), bound)


def _ranks(values: Sequence[int]) -> list[int]:
    return [value for value in values if 0 <= value < 2**15]
