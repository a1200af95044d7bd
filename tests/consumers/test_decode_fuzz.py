"""Whatever arrives, the decoder gives a sound record or a reason, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.decode import Decoder, Undecodable
from consumers.values import EARLIEST_MS, LATEST_MS, MAX_SAMPLE
from flywheel.events import Document, Event, Kind, Query
from flywheel.settings.load import Signals

DECODER = Decoder(Signals(), lambda person: person[::-1], 2_000)
FIELDS = [
    "action_name", "query_id", "user_query", "client_id", "user_id", "session_id", "timestamp", "event_id",
    "event_attributes", "object", "object_id", "internal_id", "position", "ordinal", "index", "dwell_ms",
    "query_attributes", "query_response_hit_ids", "propensities", "teams", "explored", "latency_ms", "model_version",
    "doc_id", "title", "text", "deleted", "updated_at", "ext",
]  # fmt: skip
PLAUSIBLE = st.sampled_from(
    ["click", "dwell", "q1", "", "2025-01-01T00:00:00Z", 1_737_557_845_099, 3, 0, -1, "7", True, None, ["d1"], [0.5]]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | PLAUSIBLE
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
GOOD = {
    "action_name": "click",
    "timestamp": 1_737_557_845_099,
    "query_id": "q",
    "user_query": "x",
    "doc_id": "d",
    "text": "x",
}
MESSAGES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8).map(
    lambda fields: json.dumps(GOOD | fields).encode()
)


def check(record: Query | Event | Document) -> None:
    """What every later part may rely on."""
    msgspec.json.encode(record)  # no lone surrogate, which no database would take
    moment = record.updated_at_ms if isinstance(record, Document) else record.timestamp_ms
    assert EARLIEST_MS <= moment <= LATEST_MS
    if isinstance(record, Event):
        assert record.event_id
        assert record.rank is None or record.rank >= 1
        assert (record.dwell_ms is not None) == (record.kind is Kind.DWELL)
    elif isinstance(record, Query):
        assert record.query_id
        assert all(record.hit_ids)
        assert record.propensities is None or all(0 < p <= 1 for p in record.propensities)
    assert not any(isinstance(value, str) and "\0" in value for value in astuple(record))
    assert all(note.field and note.reason and len(note.sample) <= MAX_SAMPLE for note in record.ignored)
    if not isinstance(record, Document) and record.attributes is not None:
        assert isinstance(json.loads(record.attributes), dict)


def feed(value: bytes) -> None:
    for read in (DECODER.query, DECODER.event, DECODER.document):
        outcome = _outcome(read, value)
        if isinstance(outcome, str):
            assert outcome
        else:
            check(outcome)


def _outcome(read: Callable[[bytes, int], Query | Event | Document], value: bytes) -> Query | Event | Document | str:
    try:
        return read(value, 1_760_000_000_000)
    except Undecodable as reason:
        return str(reason)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(MESSAGES)
def test_any_json_is_read_or_refused(value: bytes) -> None:
    """JSON with our field names and values of any shape."""
    feed(value)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    """Bytes of no shape at all."""
    feed(value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(MESSAGES, st.data())
def test_a_message_broken_anywhere_is_read_or_refused(value: bytes, data: st.DataObject) -> None:
    """A good message with a piece replaced, as a failing disk or a hostile sender would."""
    start = data.draw(st.integers(0, len(value)))
    stop = data.draw(st.integers(start, len(value)))
    feed(value[:start] + data.draw(st.binary(max_size=8)) + value[stop:])
