"""UBI records in: acknowledged or refused, never half-promised."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from consumers.decode import Decoder
from flywheel.serving.endpoints.ubi import completed, split
from flywheel.settings.load import Limits, Serving, Signals
from tests.serving.house import House, serve

SAMPLES = Path(__file__).parents[3] / "../shared/data/ubi/ubi_queries_events.ndjson.gz"
CLICK = {"action_name": "click", "query_id": "q1", "timestamp": "2026-01-01T00:00:00Z", "event_attributes": None}
QUERY = {"query_id": "q1", "user_query": "a", "timestamp": "2026-01-01T00:00:00Z"}


def test_accepted_means_that_the_broker_has_it(house: House) -> None:
    """One record, an array and lines each answer 202 with their number, and lie on the broker byte for byte."""
    one, flat = json.dumps(CLICK, indent=1).encode(), json.dumps(CLICK).encode()
    kinds = [
        ("application/json", one),
        ("application/json; charset=utf-8", b" [" + one + b", " + one + b"]"),
        ("application/x-ndjson", flat + b"\n\n" + flat + b"\r\n"),
    ]
    answers = [house.http.post("/v1/ubi/events", content=body, headers={"content-type": kind}) for kind, body in kinds]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (202, {"accepted": 1, "ignored": []}),
        (202, {"accepted": 2, "ignored": []}),
        (202, {"accepted": 2, "ignored": []}),
    ]
    assert house.broker.held["events"] == [one, one, one, flat, flat]


def test_a_broker_that_refuses_or_keeps_silent_is_503() -> None:
    """Nothing is promised: the client is told when to come back."""
    with serve(settings=Serving(acknowledge_timeout_ms=50)) as house:
        for trouble in ("down", "silent"):
            setattr(house.broker, trouble, True)
            for path, record in (("/v1/ubi/events", CLICK), ("/v1/ubi/queries", QUERY)):
                refused = house.http.post(path, json=[record, record])
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_acknowledged")
                assert refused.headers["retry-after"] == "2"
            setattr(house.broker, trouble, False)
        assert house.broker.held == {"queries": [], "events": []}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"[1]", b'"text"', b"null", b'[{"a": 1}, 2]', b"{} trailing", b"\xff"]
)
def test_where_no_record_can_be_read_all_is_refused(house: House, body: bytes) -> None:
    """Broken JSON, records that are no objects or say nothing answer 400, and none of the batch is sent."""
    refused = house.http.post("/v1/ubi/events", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, house.broker.held["events"]) == (400, [])


def test_deep_nesting_is_refused_and_not_fatal(house: House) -> None:
    """A hundred thousand brackets are an error of the sender's."""
    body = b"[" * 100_000
    assert (
        house.http.post("/v1/ubi/events", content=body, headers={"content-type": "application/json"}).status_code == 400
    )


def test_oversize_and_foreign_types_are_refused() -> None:
    """413 whether the length is declared or streamed; 415 for what is no JSON."""
    with serve(limits=Limits(request_bytes=1_024)) as house:
        body = json.dumps([CLICK] * 50).encode()
        headers = {"content-type": "application/json"}
        assert house.http.post("/v1/ubi/events", content=body, headers=headers).status_code == 413
        pieces = iter([body[:600], body[600:1200], body[1200:]])
        assert house.http.post("/v1/ubi/events", content=pieces, headers=headers).status_code == 413
        assert house.http.post("/v1/ubi/events", content=b"x", headers={"content-type": "text/csv"}).status_code == 415
        assert house.http.post("/v1/ubi/events", content=b"{}").status_code == 415
        assert house.broker.held["events"] == []


def test_a_query_is_given_the_id_and_time_that_it_lacks(house: House) -> None:
    """As UBI has it: the receiver may name the query, and answers with the name; given ids are kept."""
    answer = house.http.post(
        "/v1/ubi/queries", json=[{"user_query": "a"}, {"user_query": "b", "query_id": "mine"}]
    ).json()
    decoder = Decoder(Signals(), hash_id=str, max_bytes=10_000)
    read = [decoder.query(payload) for payload in house.broker.held["queries"]]
    assert [query.query_id for query in read] == answer["query_ids"]
    assert (read[1].query_id, read[0].timestamp_ms) == ("mine", 1_700_000_000_123)


def test_a_retry_of_an_event_without_a_time_is_the_same_event() -> None:
    """Its time is the arrival's, but its id comes from what was sent."""
    decoder = Decoder(Signals(), hash_id=str, max_bytes=10_000)
    sent = b'{"action_name": "click", "query_id": "q1"}'
    first, second = (decoder.event(completed("events", sent, f"2026-01-01T00:00:0{n}Z")) for n in (1, 2))
    assert first.event_id == second.event_id
    assert first.timestamp_ms != second.timestamp_ms
    other = decoder.event(completed("events", sent.replace(b"q1", b"q2"), "2026-01-01T00:00:01Z"))
    assert other.event_id != first.event_id


@pytest.mark.shared
def test_recorded_events_pass_unchanged() -> None:
    """Each recorded UBI message comes out of a batch as it went in."""
    if not SAMPLES.exists():
        pytest.skip(f"{SAMPLES} is not there")
    with gzip.open(SAMPLES) as lines:
        messages = [line.strip() for line in lines if not line.startswith(b'{"index"')]
    assert split(b"\n".join(messages), "application/x-ndjson", 5_000) == messages
    assert split(b"[" + b",".join(messages) + b"]", "application/json", 5_000) == messages
    assert msgspec.json.decode(messages[0])


def test_what_is_left_out_is_said_and_the_rest_is_taken(house: House) -> None:
    """Each record's fields that cannot be read are named with their reasons; a record that cannot be read at all is
    named too, goes to the broker as it came, to become a dead letter, and does not count as accepted."""
    odd = CLICK | {"event_attributes": {"position": {"ordinal": "N/A"}}}
    lines = [json.dumps(odd).encode(), b"no json", json.dumps(CLICK)[:-1].encode() + b', "message": "cut \\ud83d"}']
    answer = house.http.post(
        "/v1/ubi/events", content=b"\n".join(lines), headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 202
    told = answer.json()
    assert told["accepted"] == 2
    assert [(item["record"], item["field"]) for item in told["ignored"]] == [
        (1, "event_attributes.position.ordinal"),
        (2, None),
    ]
    assert told["ignored"][0]["reason"] == "is not a number"
    assert house.broker.held["events"] == lines


def test_a_time_that_no_number_holds_is_refused_at_the_door(house: House) -> None:
    """4,301 digits answer 400 with the field, not 202."""
    refused = house.http.post("/v1/ubi/events", json=CLICK | {"timestamp": "1" * 4_301})
    assert refused.status_code == 400
    assert "timestamp is outside 1990 to 2100" in refused.json()["error"]["message"]


def test_a_record_that_the_broker_never_takes_is_413_or_named(house: House) -> None:
    """Alone it is refused with its size; among others it is named, and they are accepted."""
    house.broker.most_bytes = 2_000
    large = CLICK | {"message": "x" * 3_000}
    alone = house.http.post("/v1/ubi/events", json=large)
    assert (alone.status_code, alone.json()["error"]["code"]) == (413, "too_large")
    among = house.http.post("/v1/ubi/events", json=[CLICK, large])
    assert (among.status_code, among.json()["accepted"]) == (202, 1)
    assert [(item["record"], item["field"]) for item in among.json()["ignored"]] == [(2, None)]
