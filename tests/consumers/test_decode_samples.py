"""The field's own samples: every one is read, or refused for a good reason."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from consumers.decode import Decoder, Undecodable, attempt
from flywheel.events import Event, Kind
from flywheel.settings.load import Signals

UBI = Path(__file__).parents[2] / "../shared/data/ubi"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not UBI.exists(), reason="../shared/data/ubi is not here"),
]
DECODER = Decoder(Signals(ordinal_base=0), lambda person: f"key-{person}", 1_048_576)


def recorded(name: str) -> Iterator[tuple[str, bytes]]:
    """(kind, record) of a file in OpenSearch bulk format: an action line before each record."""
    lines = gzip.decompress((UBI / name).read_bytes()).splitlines()
    for action, record in zip(lines[::2], lines[1::2], strict=True):
        yield ("query" if b"ubi_queries" in action else "event"), record


@pytest.mark.parametrize(
    ("name", "queries", "events"),
    [("ubi_queries_events.ndjson.gz", 473, 3_448), ("ubi_queries_events.small_2025-05.ndjson.gz", 200, 1_060)],
)
def test_every_recorded_query_and_event_is_read(name: str, queries: int, events: int) -> None:
    """None of the recordings is refused, but for the two events that name neither a query nor a document."""
    read = Counter(str(attempt(partial(getattr(DECODER, kind), record)))[:30] for kind, record in recorded(name))
    refused = sum(number for text, number in read.items() if text.startswith("names neither a query"))
    assert sum(read.values()) == queries + events
    assert refused == {3_448: 2}.get(events, 0)
    assert not [text for text in read if not text.startswith(("Query(", "Event(", "names neither"))]


def test_the_recordings_yield_what_learning_needs() -> None:
    """Clicks and impressions come with page, document, rank and person."""
    lines = [record for kind, record in recorded("ubi_queries_events.ndjson.gz") if kind == "event"]
    read = [attempt(partial(DECODER.event, record)) for record in lines]
    events = [event for event in read if isinstance(event, Event)]
    used = [event for event in events if event.kind in {Kind.CLICK, Kind.IMPRESSION, Kind.ADD_TO_CART}]
    assert len(used) > 2_000
    assert all(event.query_id and event.doc_id and event.rank and event.client_key for event in used)
    sessions = sum(event.session_id is not None for event in events)
    assert sessions == len(events)


def test_the_official_samples_are_read_or_refused_for_a_reason() -> None:
    """The event sample is an event; requests to a search engine are told from records of them."""
    event = DECODER.event((UBI / "samples/event-opensearch.json").read_bytes())
    assert (event.action_name, event.kind, event.user_key) == ("page_exit", Kind.OTHER, "key-1821196507152684")
    for name in ("query-opensearch.json", "query-solr.json"):
        with pytest.raises(Undecodable, match="search request"):
            DECODER.query((UBI / "samples" / name).read_bytes())
    with pytest.raises(Undecodable, match=r"malformed|truncated|Expecting"):
        DECODER.event((UBI / "samples/event-solr.json").read_bytes())
