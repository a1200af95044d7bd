"""UBI records in: acknowledged or refused, never half-promised."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from consumers.decode import Decoder
from flywheel.serving.endpoints.ubi import complete_event, split
from flywheel.settings.load import Limits, Serving, Signals
from tests.serving.house import House, serve

SAMPLES = Path(__file__).parents[3] / "../shared/data/ubi/ubi_queries_events.ndjson.gz"
CLICK = {"action_name": "click", "query_id": "q1", "timestamp": "2026-01-01T00:00:00Z", "event_attributes": None}


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
        (202, {"accepted": 1}),
        (202, {"accepted": 2}),
        (202, {"accepted": 2}),
    ]
    assert house.broker.held["events"] == [one, one, one, flat, flat]


def test_a_broker_that_refuses_or_keeps_silent_is_503() -> None:
    """Nothing is promised: the client is told when to come back."""
    with serve(settings=Serving(acknowledge_timeout_ms=50)) as house:
        for trouble in ("down", "silent"):
            setattr(house.broker, trouble, True)
            for path in ("/v1/ubi/events", "/v1/ubi/queries"):
                refused = house.http.post(path, json=[CLICK, CLICK])
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_acknowledged")
                assert refused.headers["retry-after"] == "2"
            setattr(house.broker, trouble, False)
        assert house.broker.held == {"queries": [], "events": []}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"[1]", b'"text"', b"null", b'[{"a": 1}, 2]', b"{} trailing", b"\xff"]
)
def test_what_is_no_json_object_is_refused(house: House, body: bytes) -> None:
    """Broken JSON and records that are no objects answer 400, and none of the batch is sent."""
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
    first, second = (decoder.event(complete_event(sent, f"2026-01-01T00:00:0{n}Z")) for n in (1, 2))
    assert first.event_id == second.event_id
    assert first.timestamp_ms != second.timestamp_ms
    other = decoder.event(complete_event(sent.replace(b"q1", b"q2"), "2026-01-01T00:00:01Z"))
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
