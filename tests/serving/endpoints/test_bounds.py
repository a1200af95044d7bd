"""What a request may hold: records, values, and a client that leaves."""

from __future__ import annotations

import socket
import sys
import threading
import time

import httpx
import pytest

from flywheel.serving.services import Ruling
from flywheel.settings.load import Limits
from tests.serving.house import House, eventually, serve

KIND = {"content-type": "application/json"}
PAGE = b'{"query_id": "q", "user_query": "sort"}'
TINY = b"[" + b",".join([b"{}"] * 300_000) + b"]"


def latency(house: House) -> float:
    began = time.monotonic()
    assert house.http.post("/v1/search", json={"query": "sort"}).status_code == 200
    return time.monotonic() - began


@pytest.mark.parametrize("path", ["/v1/ubi/queries", "/v1/ubi/events"])
def test_many_records_in_one_body_are_refused_at_once(house: House, path: str) -> None:
    """300,000 empty objects, or some more than may be, are one answer of 413 at once, and nothing is sent on."""
    began = time.monotonic()
    lines = {"content-type": "application/x-ndjson"}
    for body, kind in ((TINY, KIND), (b"{}\n" * 300_000, lines)):
        assert house.http.post(path, content=body, headers=kind).status_code == 413
    assert time.monotonic() - began < 5
    some = house.http.post(path, content=b"[" + b",".join([b"{}"] * 20_000) + b"]", headers=KIND)
    assert (some.status_code, some.json()["error"]["code"]) == (413, "too_many_records")
    assert "limits.request_records" in some.json()["error"]["message"]
    assert house.broker.held == {"queries": [], "events": []}


def test_as_many_records_as_may_be_are_taken() -> None:
    """A full body is accepted, and searches are answered meanwhile."""
    with serve(limits=Limits(request_records=2_000)) as house:
        body = b"[" + b",".join([PAGE] * 2_000) + b"]"
        assert house.http.post("/v1/ubi/queries", content=body, headers=KIND).json()["accepted"] == 2_000
        assert latency(house) < 2


def test_many_small_records_are_read_in_slices_beside_the_event_loop() -> None:
    """However few bytes they have: of a body of 2,000 records none is read where requests are answered, and each slice
    ends before the next one begins. A handful is read at once. The records keep their numbers."""
    places: list[str] = []

    def judging(_kind: object, record: bytes, _now_ms: int | None) -> Ruling:
        places.append(threading.current_thread().name)
        return Ruling(refused="spoilt" if b"spoilt" in record else None)

    with serve(judging=judging) as house:
        lines = [b"{}"] * 2_000
        lines[1_234] = b'"spoilt"'
        many = house.http.post("/v1/ubi/events", content=b"[" + b",".join(lines) + b"]", headers=KIND).json()
        assert (many["accepted"], [item["record"] for item in many["ignored"]]) == (1_999, [1_235])
        assert set(places) == {"flywheel-request"}
        assert len(house.broker.held["events"]) == 2_000
        places.clear()
        assert house.http.post("/v1/ubi/events", content=b"[{}, {}]", headers=KIND).json()["accepted"] == 2
        assert set(places) == {"http"}


def test_a_serving_process_gives_searches_their_turn_often(house: House) -> None:
    """A thread that decodes gives the interpreter's lock away well within a millisecond."""
    assert house.http.get("/healthz").status_code == 200
    assert sys.getswitchinterval() < 0.001


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"x": [' + b",".join([b"[]"] * 300_000) + b"]}", id="lists"),
        pytest.param(b'{"x": [' + b",".join([b"1"] * 400_000) + b"]}", id="numbers"),
        pytest.param(b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", id="depth"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/search", "/v1/embeddings", "/v1/promote", "/v1/ops/cycle", "/v1/sql"])
def test_values_that_outgrow_their_json_are_refused(house: House, path: str, body: bytes) -> None:
    """A body of a megabyte that would become hundreds is refused before it is read."""
    assert house.http.post(path, content=body, headers=KIND).status_code in (400, 413)


@pytest.mark.parametrize("number", ["9" * 5_000, "1e999999", "-" + "9" * 5_000, "0." + "9" * 10_000])
def test_no_number_is_an_error_of_ours(house: House, number: str) -> None:
    """Numbers that no column holds are refused or read, wherever a number stands."""
    for path, body in (
        ("/v1/search", f'{{"query": "sort", "k": {number}}}'),
        ("/v1/ubi/events", f'{{"action_name": "click", "timestamp": {number}}}'),
        ("/v1/ubi/queries", f'{{"user_query": {number}}}'),
    ):
        assert house.http.post(path, content=body.encode(), headers=KIND).status_code < 500


def test_a_client_that_hangs_up_is_no_error_of_ours(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted with its own status, and nothing is logged as failed."""
    url = httpx.URL(house.url)
    with socket.create_connection((url.host, url.port or 0), 5) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
    eventually(lambda: 'status="499"' in house.http.get("/metrics").text)
    assert 'status="500"' not in house.http.get("/metrics").text
    assert "Traceback" not in caplog.text


def test_one_caller_sends_so_many_records_a_second() -> None:
    """Beyond them it gets 429 with the time to come back and nothing of the body is taken; then it goes on."""
    with serve(limits=Limits(records_per_second=100)) as house:
        body = b"[" + b",".join([PAGE] * 150) + b"]"
        answers = [house.http.post("/v1/ubi/queries", content=body, headers=KIND) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 429, 429]
        assert int(answers[1].headers["retry-after"]) >= 1
        assert len(house.broker.held["queries"]) == 150
        eventually(lambda: house.http.post("/v1/ubi/queries", content=body, headers=KIND).status_code == 202)
        assert house.http.post("/v1/search", json={"query": "sort"}).status_code == 200
