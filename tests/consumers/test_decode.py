"""Wire formats -> records: what each odd but plain value means, and why the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumers.decode import Decoder, Undecodable
from flywheel.events import Ignored, Kind
from flywheel.settings.load import Signals

NOW = "2025-01-22T14:57:25.099Z"
NOW_MS = 1_737_557_845_099


def decoder(**signals: Any) -> Decoder:
    return Decoder(Signals(**signals), lambda person: f"key-{person}", 10_000)


def raw(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def click(**fields: Any) -> bytes:
    return raw(**({"action_name": "click", "timestamp": NOW, "query_id": "q"} | fields))


def page(**fields: Any) -> bytes:
    return raw(**({"query_id": "q", "user_query": "red shoes", "timestamp": NOW} | fields))


def test_a_page_is_read_whole() -> None:
    """Hits in their order, and everything that tells which model showed them."""
    attributes = {
        "model_version": "v2",
        "experiment_id": 12,
        "arm": "challenger",
        "propensities": [1.0, 0.25],
        "teams": ["champion", "both"],
        "explored": [2],
        "latency_ms": 12.5,
    }
    query = decoder().query(page(query_response_hit_ids=["b", 7], query_attributes=attributes, client_id="c"))
    assert (query.query_id, query.text, query.timestamp_ms) == ("q", "red shoes", NOW_MS)
    assert query.hit_ids == ("b", "7")
    assert (query.model_version, query.experiment_id, query.arm) == ("v2", "12", "challenger")
    assert (query.propensities, query.teams, query.explored) == ((1.0, 0.25), ("champion", "both"), (2,))
    assert query.latency_ms == 12.5
    assert (query.client_key, query.user_key) == ("key-c", None)


def test_an_event_is_read_whole() -> None:
    """The schema's own fields, and those of event_attributes."""
    attributes = {"object": {"object_id": "d1"}, "position": {"ordinal": 3}, "event_id": "e1", "session_id": "s"}
    event = decoder().event(click(query_id="q", user_id="u", event_attributes=attributes))
    assert (event.event_id, event.kind, event.query_id, event.doc_id) == ("e1", Kind.CLICK, "q", "d1")
    assert (event.rank, event.session_id, event.user_key, event.timestamp_ms) == (3, "key-s", "key-u", NOW_MS)


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (NOW_MS, NOW_MS),
        (float(NOW_MS), NOW_MS),
        (str(NOW_MS), NOW_MS),
        (NOW, NOW_MS),
        ("2025-01-22T15:57:25.099+01:00", NOW_MS),
        ("2025-01-22T14:57:25.099", NOW_MS),
        ("2025-01-22T14:57:25", NOW_MS - 99),
    ],
)
def test_times_are_iso_8601_or_epoch_milliseconds(written: object, milliseconds: int) -> None:
    """Each spelling of one moment is the same moment; without an offset it is UTC."""
    assert decoder().event(click(timestamp=written)).timestamp_ms == milliseconds


@pytest.mark.parametrize("where", ["top", "attributes"])
@pytest.mark.parametrize("field", ["client_id", "user_id", "session_id"])
def test_people_and_sessions_are_found_at_both_places(field: str, where: str) -> None:
    """Schema 1.2 has them at top level, its samples in event_attributes."""
    attributes: dict[str, Any] = {"position": {}} | ({field: "x"} if where == "attributes" else {})
    event = decoder().event(click(event_attributes=attributes, **({field: "x"} if where == "top" else {})))
    found = {"client_id": event.client_key, "user_id": event.user_key, "session_id": event.session_id}
    assert found.pop(field) == "key-x"
    assert set(found.values()) == {None}


def test_ids_of_people_never_leave_the_decoder_as_they_came() -> None:
    """Only keyed hashes are in the records."""
    event = decoder().event(click(client_id="alice", user_id="alice@example.org"))
    assert "alice" not in repr(event).replace("key-alice@example.org", "").replace("key-alice", "")


@pytest.mark.parametrize(("base", "ordinal", "rank"), [(1, 1, 1), (0, 0, 1), (0, 9, 10), (1, 0, None), (1, "4", 4)])
def test_ordinals_count_from_the_base_that_is_set(base: int, ordinal: object, rank: int | None) -> None:
    """A rank is 1-based whatever the product counts from; one below the base is unknown, and the event is kept."""
    assert decoder(ordinal_base=base).event(click(event_attributes={"position": {"ordinal": ordinal}})).rank == rank


def test_older_schemas_nest_the_ordinal() -> None:
    """Schemas 1.1 and 1.2 write {"ordinal": {"index": 3}}."""
    assert decoder().event(click(event_attributes={"position": {"ordinal": {"index": 3}}})).rank == 3


@pytest.mark.parametrize("attributes", [None, {}, {"object": None, "position": None}, {"position": {"xy": {"x": 1}}}])
def test_missing_attributes_leave_their_fields_empty(attributes: object) -> None:
    """event_attributes may be null or hold nothing of ours."""
    event = decoder().event(click(event_attributes=attributes, message=None))
    assert (event.doc_id, event.rank, event.dwell_ms) == (None, None, None)


def test_an_event_without_an_id_is_named_by_its_content() -> None:
    """A producer's retry has the same bytes and so the same name; another event has another."""
    first, again, other = (decoder().event(click(query_id=q)).event_id for q in ("a", "a", "b"))
    assert first == again != other


def test_action_names_of_ones_own_are_mapped() -> None:
    """`signals.action_names` says what a product's word means; unknown words are kept as `other`."""
    reader = decoder(action_names={"like": "thumbs_up", "click": "other"})
    kinds = [reader.event(click(action_name=name)).kind for name in ("like", "click", "zoom")]
    assert kinds == [Kind.THUMBS_UP, Kind.OTHER, Kind.OTHER]
    with pytest.raises(ValueError, match=r"signals\.action_names"):
        decoder(action_names={"like": "applause"})


def test_an_action_that_is_not_used_may_look_as_it_likes() -> None:
    """Attributes of a shape of their own are no reason to refuse the event, whatever its kind; they are noted."""
    for name, kind in (("zoom", Kind.OTHER), ("click", Kind.CLICK)):
        event = decoder().event(click(action_name=name, event_attributes=[1]))
        assert (event.kind, event.ignored) == (kind, (Ignored("event_attributes", "is no object", "[1]"),))


def test_documents_are_read_and_deleted() -> None:
    """Title and text make a document; deleted needs neither; a document without a time takes the broker's."""
    reader = decoder()
    assert reader.document(raw(doc_id=5, title="T", text="x", updated_at=NOW)).doc_id == "5"
    gone = reader.document(raw(doc_id="d", deleted=True), sent_ms=NOW_MS)
    assert (gone.deleted, gone.updated_at_ms) == (True, NOW_MS)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("event", b"", "truncated"),
        ("event", b"[]", "no JSON object"),
        ("event", b'{"action_name": "click", "timestamp": NaN}', "neither ISO 8601"),
        ("event", "{}".encode("utf-16"), "send UTF-8"),
        ("event", b"\xff", "not UTF-8"),
        ("event", b"\0\0\0\0\7\2click", "schema 7 of a registry"),
        ("event", raw(action_name="click", query_id="q", timestamp="1" * 4_301), "outside 1990 to 2100"),
        ("event", b'{"action_name": "click", "timestamp": ' + b"1" * 4_301 + b"}", "outside 1990 to 2100"),
        ("event", raw(action_name="click", timestamp=NOW, client_id="c"), "names neither a query"),
        ("event", raw(payload=None, schema={}), "payload of Kafka Connect is no JSON object"),
        ("event", b'{"x":' + b"[" * 4_000, "nested too deeply"),
        ("event", b" " * 10_001, "limits.message_bytes"),
        ("event", raw(timestamp=NOW), "action_name is missing"),
        ("event", raw(action_name="click"), "timestamp is missing"),
        ("event", click(timestamp="yesterday"), "neither ISO 8601"),
        ("event", click(timestamp=1_737_557_845), "looks like seconds"),
        ("event", click(timestamp=10**30), "outside 1990 to 2100"),
        ("event", click(action_name="dwell"), "without event_attributes.dwell_ms"),
        ("event", click(action_name="dwell", event_attributes={"dwell_ms": -1}), "not between"),
        ("event", click(query_id="x" * 600), "names neither"),
        ("query", raw(user_query="x"), "query_id is missing"),
        ("query", raw(ext={"ubi": {}}, query={}), "search request"),
        ("query", raw(query_id="q", timestamp=NOW), "user_query is missing"),
        ("query", page(query_id="x" * 600), "query_id has more than 512"),
        ("document", raw(title="x", updated_at=NOW), "doc_id is missing"),
        ("document", raw(doc_id="d", updated_at=NOW), "neither title nor text"),
        ("document", raw(doc_id="d", text="x", deleted="perhaps", updated_at=NOW), "neither true nor false"),
    ],
)
def test_what_cannot_be_read_says_why(kind: str, value: bytes, reason: str) -> None:
    """Each refusal has a reason that an operator can act on."""
    with pytest.raises(Undecodable, match=reason):
        getattr(decoder(), kind)(value)


def test_free_text_is_bounded() -> None:
    """A query of any length is read, up to its first 4,096 characters."""
    assert len(decoder().query(page(user_query="x" * 9_000)).text) == 4_096
