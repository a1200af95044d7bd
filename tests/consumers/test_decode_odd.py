"""UBI as it is really sent: one odd field voids no record, and what is left out is noted by field and reason."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from consumers.decode import Decoder, Undecodable
from flywheel.events import Kind
from flywheel.settings.load import Mapping, Signals
from tests.consumers.test_decode import NOW, NOW_MS, click, decoder, page, raw

HITS = ["d1", "d2", "d3"]
CASES = Path(__file__).parents[2] / "../shared/cases"


def notes(record: Any) -> list[str]:
    return [f"{note.field} {note.reason}" for note in record.ignored]


@pytest.mark.parametrize(
    ("fields", "expected", "noted"),
    [
        ({"query_attributes": []}, {}, 0),
        ({"query_attributes": ""}, {}, 0),
        ({"query_attributes": "none"}, {}, 1),
        ({"query_attributes": '{"model_version": "v2"}'}, {"model_version": "v2"}, 0),
        ({"query_attributes": {"model_version": "base", "latency_ms": "31"}}, {"latency_ms": 31.0}, 0),
        ({"query_attributes": {"latency_ms": -1}}, {"latency_ms": None}, 1),
        ({"query_attributes": {"model_version": 2.5}}, {"model_version": "2.5"}, 0),
        ({"query_attributes": {"model_version": {"a": 1}}}, {"model_version": None}, 1),
        ({"user_query": 4711}, {"text": "4711"}, 0),
        ({"user_query": "cut \ud83d"}, {"text": "cut \ufffd"}, 1),
        ({"query_response_hit_ids": ["d1", None, "d2"]}, {"hit_ids": ("d1", "d2")}, 1),
        ({"query_response_hit_ids": [12345, 12345.0, "12345"]}, {"hit_ids": ("12345",) * 3}, 0),
        ({"query_response_hit_ids": [{"object_id": "d1"}, {"x": 1}]}, {"hit_ids": ("d1",)}, 1),
        ({"query_response_hit_ids": "d1"}, {"hit_ids": ()}, 1),
        ({"query_response_hit_ids": [], "query_response_object_ids": HITS}, {"hit_ids": tuple(HITS)}, 0),
        ({"query_attributes": {"propensities": [1, 0.5, "0.25"]}}, {"propensities": (1.0, 0.5, 0.25)}, 0),
        ({"query_attributes": {"propensities": [1, 2, 1]}}, {"propensities": None}, 1),
        ({"query_attributes": {"propensities": [1]}}, {"propensities": None}, 1),
        ({"query_attributes": {"teams": ["x", "both", "both"]}}, {"teams": None}, 1),
        ({"query_attributes": {"explored": [1, "2", "x"]}}, {"explored": (1, 2)}, 1),
        ({"client_id": {"a": 1}}, {"client_key": None}, 1),
        ({"session_id": "x" * 600}, {"session_id": None}, 1),
        ({"timestamp": "2025-01-22t14:57:25.099z"}, {"timestamp_ms": NOW_MS}, 0),
        ({"timestamp": "soon"}, {"timestamp_ms": 1_760_000_000_000}, 1),
    ],
)
def test_a_page_keeps_what_can_be_read(fields: dict[str, Any], expected: dict[str, Any], noted: int) -> None:
    """The odd field is read as it was meant or left out and noted; the page and its hits stay."""
    sent = {"query_response_hit_ids": HITS} | fields
    query = decoder().query(page(**sent), sent_ms=1_760_000_000_000)
    assert {name: getattr(query, name) for name in expected} == expected
    assert query.hit_ids or "query_response_hit_ids" in fields
    assert len(query.ignored) == noted, notes(query)


def test_what_goes_with_a_hit_goes_out_with_it() -> None:
    """Chances and teams stay with the hits that are left."""
    attributes = {"propensities": [0.5, 0.25, 0.125], "teams": ["both", "champion", "challenger"]}
    query = decoder().query(page(query_response_hit_ids=["a", None, "c"], query_attributes=attributes))
    assert (query.hit_ids, query.propensities, query.teams) == (("a", "c"), (0.5, 0.125), ("both", "challenger"))


@pytest.mark.parametrize(
    ("attributes", "rank", "doc_id", "noted"),
    [
        ({"object": {"object_id": "d1"}, "position": {"ordinal": -1}}, None, "d1", 1),
        ({"object": {"object_id": "d1"}, "position": {"ordinal": "N/A"}}, None, "d1", 1),
        ({"object": {"object_id": 12345.0}, "position": {"ordinal": "2"}}, 2, "12345", 0),
        ({"object": {"object_id": None, "internal_id": "d1"}, "position": 3}, 3, "d1", 0),
        ({"object": "d1", "position": []}, None, "d1", 0),
        ({"object": {"object_id": ["d1"]}}, None, None, 1),
        ([], None, None, 0),
        ("[1", None, None, 1),
    ],
)
def test_an_event_keeps_what_can_be_read(attributes: Any, rank: int | None, doc_id: str | None, noted: int) -> None:
    """A rank or document that cannot be read leaves the click on its page, whose hits may know it."""
    event = decoder().event(click(event_attributes=attributes))
    assert (event.kind, event.query_id, event.rank, event.doc_id) == (Kind.CLICK, "q", rank, doc_id)
    assert len(event.ignored) == noted, notes(event)


@pytest.mark.parametrize(
    "odd",
    [b'"cut \\ud83d"', b'"\xe4\xff"', b"NaN", b'"two\nlines"', b"-Infinity", b"1e999", b"9" * 5_000, b'"\\u0000"'],
)
def test_a_field_that_nobody_uses_may_hold_anything(odd: bytes) -> None:
    """Half a character, another encoding, no number: the event is read, and what it means is noted nowhere."""
    event = decoder().event(click()[:-1] + b', "message": ' + odd + b"}")
    assert (event.kind, event.ignored) == (Kind.CLICK, ())
    assert decoder().event(b"\xef\xbb\xbf" + click()).query_id == "q"


def test_no_value_of_a_person_is_shown() -> None:
    """What is noted of client, user and session never holds a value."""
    query = decoder().query(page(client_id=["alice"], user_id={"mail": "alice"}, session_id=["alice"]))
    assert len(query.ignored) == 3
    assert "alice" not in repr(query)


def test_further_attributes_are_kept_as_json() -> None:
    """Those without a place of their own, never who somebody is, and none beyond their bound."""
    extra = {"model_version": "v1", "segment": "new", "user_id": "alice", "device": {"os": "x"}, "n": float("nan")}
    query = decoder().query(page(query_attributes=extra))
    assert json.loads(query.attributes or "") == {"segment": "new", "device": {"os": "x"}, "n": None}
    target = {"object_id": "d", "price": 9.5, "name": "half \ud83d"}
    event = decoder().event(click(event_attributes={"object": target, "session_id": "s", "page": 2, "huge": 10**30}))
    assert json.loads(event.attributes or "") == {
        "object": {"price": 9.5, "name": "half \ufffd"}, "page": 2, "huge": 1e30
    }  # fmt: skip
    large = Decoder(Signals(), str, 100_000).query(page(query_attributes={"x": "y" * 20_000}))
    assert (large.attributes, notes(large)) == (
        None,
        ["query_attributes has more than 16384 bytes, which are not kept"],
    )
    assert decoder().event(click()).attributes is None


def test_documents_have_the_names_that_exports_give_them() -> None:
    """`_id` and `body`, a hit of OpenSearch, numbers for texts, and the key where there is no id."""
    reader = decoder()
    read = [
        reader.document(raw(_id="d", body="x"), NOW_MS),
        reader.document(raw(_index="docs", _id="d", _source={"title": "x"}), NOW_MS),
        reader.document(raw(text="x"), NOW_MS, b'"d"'),
        reader.document(raw(id="d", title=["no text"], content="x", updated_at="soon"), NOW_MS),
    ]
    assert [(document.doc_id, document.content, document.updated_at_ms) for document in read] == [
        ("d", "x", NOW_MS)
    ] * 4
    assert [len(document.ignored) for document in read] == [0, 0, 0, 2]


CLICK = json.loads(click())


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\0\0\7" + click(),
        raw(schema={"type": "struct"}, payload=CLICK),
        raw(schema=None, payload=click().decode()),
        raw(before=None, after=CLICK, op="c", source={}),
        raw(schema={}, payload={"before": None, "after": CLICK, "op": "r"}),
        raw(specversion="1.0", type="ubi", source="/x", id="1", data=CLICK),
        raw(specversion="1.0", type="ubi", source="/x", id="1", data_base64=b64encode(click()).decode()),
        raw(_index="ubi_events", _id="2", _score=1, _source=CLICK),
        b"\0\0\0\0\7" + raw(schema={}, payload={"before": None, "after": CLICK, "op": "c"}),
    ],
    ids=["registry", "connect", "connect text", "debezium", "connect debezium", "cloud", "cloud64", "hit", "all"],
)
def test_envelopes_are_taken_off(sent: bytes) -> None:
    """A schema registry's prefix, Connect, Debezium, CloudEvents, a hit of OpenSearch, and one within the other."""
    event = decoder().event(sent)
    assert (event.kind, event.query_id, event.timestamp_ms) == (Kind.CLICK, "q", NOW_MS)
    assert decoder().feedback(sent) == event


def test_a_deleted_row_deletes_its_document_and_nothing_else() -> None:
    """Debezium's deletions are read for documents; a deleted event or page is refused by name."""
    gone = raw(before={"id": 5, "title": "x"}, after=None, op="d", ts_ms=NOW_MS)
    document = decoder().document(gone)
    assert (document.doc_id, document.deleted, document.updated_at_ms) == ("5", True, NOW_MS)
    with pytest.raises(Undecodable, match="action_name is missing"):
        decoder().event(gone)


SEGMENT = Mapping(
    events={
        "action_name": "event",
        "query_id": "properties.query_id",
        "user_id": "userId",
        "client_id": "anonymousId",
        "event_id": "messageId",
        "event_attributes.object.object_id": "properties.products[0].product_id",
        "event_attributes.position.ordinal": "properties.products[0].position",
    },
    queries={
        "query_id": "properties.query_id",
        "user_query": "properties.query",
        "query_response_hit_ids": "properties.products[*].product_id",
    },
    values={"action_name": {"Product Clicked": "click", "Order Completed": "purchase"}},
)
GA4 = Mapping(
    events={
        "action_name": "event_name",
        "timestamp": "event_timestamp",
        "client_id": "user_pseudo_id",
        "query_id": "event_params[key=search_id].value.string_value",
        "event_attributes.object.object_id": "items[0].item_id",
    },
    values={"action_name": {"select_item": "click"}},
    time_unit="us",
)


def test_two_dialects_that_are_not_ubi_are_mapped() -> None:
    """Segment's and Google Analytics' events and pages are read by `[mapping]`, values and unit of time included."""
    segment = Decoder(Signals(), str, 10_000, SEGMENT)
    product = {"product_id": "d1", "position": 2}
    sent = {
        "messageId": "m1",
        "anonymousId": "a",
        "timestamp": NOW,
        "properties": {"query_id": "q", "products": [product]},
    }
    event = segment.event(raw(event="Product Clicked", **sent))
    assert (event.kind, event.event_id, event.query_id, event.doc_id, event.rank) == (Kind.CLICK, "m1", "q", "d1", 2)
    properties = {"query_id": "q", "query": "a bag", "products": [product, {"product_id": "d2"}, {}]}
    query = segment.query(raw(timestamp=NOW, properties=properties))
    assert (query.text, query.hit_ids) == ("a bag", ("d1", "d2"))
    analytics = Decoder(Signals(), str, 10_000, GA4)
    parameters = [{"key": "page", "value": {"int_value": 1}}, {"key": "search_id", "value": {"string_value": "q"}}]
    event = analytics.event(
        raw(
            event_name="select_item",
            event_timestamp=NOW_MS * 1_000,
            user_pseudo_id="u",
            event_params=parameters,
            items=[{"item_id": "d1"}],
        )
    )
    assert (event.kind, event.query_id, event.doc_id, event.timestamp_ms) == (Kind.CLICK, "q", "d1", NOW_MS)
    assert segment.event(click()) == decoder().event(click())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"events": {"action_nam": "event"}}, "did you mean action_name"),
        ({"queries": {"query_id": "a[b"}}, "cannot be read at"),
        ({"values": {"kind": {}}}, "no field of ours"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_what_to_write(settings: dict[str, Any], word: str) -> None:
    """A field that is none of ours, or a broken path, is an error that names the nearest."""
    with pytest.raises(ValueError, match=word):
        Decoder(Signals(), str, 10_000, Mapping(**settings))


@pytest.mark.shared
@pytest.mark.skipif(not CASES.exists(), reason="../shared/cases is not here")
@pytest.mark.parametrize(
    ("file", "hits"),
    [
        ("05-one-odd-field-voids-the-record/feedback.ndjson", 14),
        ("07-hits-under-their-earlier-name/queries.ndjson", 2),
        ("17-exports-of-opensearch/ubi.ndjson", 3),
    ],
)
def test_the_reported_records_are_all_read(file: str, hits: int) -> None:
    """Each record of these reports is a page or a click, with the hits that it names."""
    records = [decoder().feedback(line) for line in (CASES / file).read_bytes().splitlines() if line.strip()]
    assert sum(len(getattr(record, "hit_ids", ())) for record in records) == hits
