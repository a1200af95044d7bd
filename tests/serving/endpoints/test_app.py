"""The whole API over a real server: its endpoints, its errors and its probes."""

from __future__ import annotations

import pytest

from flywheel.serving.endpoints.app import create_app
from flywheel.serving.endpoints.control import ALLOWED
from flywheel.settings.load import ConfigError, Limits, Serving
from tests.serving.house import House, serve


def test_an_unready_house_says_why(house: House) -> None:
    """/readyz answers 503 with the reasons while there are any, and /healthz does not care."""
    assert house.http.get("/readyz").json() == {"ready": True, "reasons": []}
    house.reasons.append("the broker is away")
    refused = house.http.get("/readyz")
    assert (refused.status_code, refused.json()["reasons"]) == (503, ["the broker is away"])
    assert house.http.get("/healthz").status_code == 200


def test_metrics_carry_requests_searches_and_the_state_of_the_house(house: House) -> None:
    """One scrape has the requests by route, the cache's totals and each number of the status."""
    for _ in range(2):
        house.http.post("/v1/search", json={"query": "sort a list"})
    house.http.get("/no/such/path")
    text = house.http.get("/metrics").text
    assert 'flywheel_http_requests_total{method="POST",route="/v1/search",status="200"} 2.0' in text
    assert 'route="other",status="404"' in text
    assert "flywheel_search_vector_cache_hits_total 1.0" in text
    assert "flywheel_pages_logged_total 2.0" in text
    assert "flywheel_ingest_events_total 7.0" in text
    assert "flywheel_uptime_seconds 12.0" in text


def test_metrics_outlive_a_status_that_fails(house: House) -> None:
    """A status that cannot be read shows as flywheel_up 0, and the rest is served."""
    house.operations.broken = True
    text = house.http.get("/metrics").text
    assert "flywheel_up 0.0" in text
    assert "flywheel_pages_logged_total" in text


@pytest.mark.parametrize("name", ["models", "experiments", "triggers", "decisions", "status"])
def test_what_the_house_knows_can_be_read(house: House, name: str) -> None:
    """Each GET answers what the operation of that name answers, not-a-number as null."""
    answer = house.http.get(f"/v1/{name}")
    assert answer.status_code == 200
    expected = getattr(house.operations, name)()
    if name == "models":
        expected[0]["metrics"]["ndcg@10"] = None
    assert answer.json() == expected


def test_promote_and_rollback_reach_the_operations_with_their_reason(house: House) -> None:
    """The body's fields arrive as arguments, and what is left out has its default."""
    house.http.post(
        "/v1/promote", json={"version": "m2", "reason": "tested by hand", "actor": "ada"}
    ).raise_for_status()
    house.http.post("/v1/rollback").raise_for_status()
    house.http.post("/v1/pause", json={}).raise_for_status()
    assert house.operations.calls == [
        ("promote", {"version": "m2", "reason": "tested by hand", "actor": "ada"}),
        ("rollback", {"reason": "by hand", "actor": "http"}),
        ("pause", {}),
    ]


def test_an_operation_that_refuses_is_told_in_its_own_words(house: House) -> None:
    """An OperationError keeps its message and code, and its code decides the status."""
    refused = house.http.post("/v1/promote", json={"version": "ghost"})
    assert refused.status_code == 404
    assert refused.json() == {
        "error": {"message": "there is no version 'ghost'; see `flywheel models`", "code": "not_found"}
    }


def test_what_nobody_expected_reaches_no_client(house: House) -> None:
    """An unexpected error is 500 with a reference, without its text or a traceback."""
    answer = house.http.post("/v1/resume")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_every_error_has_the_same_shape(house: House) -> None:
    """Unknown paths, wrong methods and wrong fields answer {"error": {"message", "code"}}."""
    answers = [
        house.http.get("/v1/nothing"),
        house.http.get("/v1/search"),
        house.http.post("/v1/promote", json={"reason": "no version"}),
        house.http.post("/v1/promote", content=b"{", headers={"content-type": "application/json"}),
        house.http.post("/v1/promote", content=b"version=m2"),
        house.http.post("/v1/ops/__class__", json={}),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 400, 400, 415, 404]
    assert all(set(answer.json()["error"]) == {"message", "code"} for answer in answers)
    assert "version" in answers[2].json()["error"]["message"]


def test_operations_by_name_take_their_arguments_and_no_others(house: House) -> None:
    """/v1/ops/NAME checks the arguments by type, and only listed names exist."""
    done = house.http.post("/v1/ops/cycle", json={"wait": False, "tier": "adapter"})
    assert (done.json(), house.operations.calls) == (
        {"accepted": True},
        [("cycle", {"wait": False, "tier": "adapter"})],
    )
    assert house.http.post("/v1/ops/cycle", json={"tier": "nonsense"}).status_code == 400
    assert house.http.post("/v1/ops/sql", json={"statement": "select 1"}).status_code == 404
    assert house.http.post("/v1/ops/seen_documents").json() == ["copy"]
    assert all(hasattr(house.operations, name) for name in ALLOWED)


def test_imports_may_be_larger_than_other_bodies() -> None:
    """limits.import_bytes, not limits.request_bytes, bounds an import."""
    records = {"kind": "documents", "records": [{"doc_id": str(number), "text": "x" * 100} for number in range(100)]}
    with serve(limits=Limits(request_bytes=1_024)) as house:
        assert house.http.post("/v1/ops/import_records", json=records).json()["stored"] == 100
        assert house.http.post("/v1/promote", json={"version": "x" * 2_000}).status_code == 413
    with serve(limits=Limits(import_bytes=1_024)) as house:
        assert house.http.post("/v1/ops/import_records", json=records).status_code == 413


def test_a_slow_operation_holds_up_no_search(house: House) -> None:
    """While twenty cycles are waited for, searches and probes go on."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    with ThreadPoolExecutor(20) as pool:
        slow = [
            pool.submit(httpx.post, f"{house.url}/v1/ops/cycle", json={"wait": True}, timeout=30) for _ in range(20)
        ]
        try:
            assert house.http.post("/v1/search", json={"query": "sort"}).status_code == 200
            assert not any(request.done() for request in slow)
        finally:
            house.operations.blocked.set()
        assert all(request.result().status_code == 200 for request in slow)


def test_nothing_is_served_to_other_machines_without_a_token() -> None:
    """create_app itself refuses, so that no runner can forget to ask."""
    with pytest.raises(ConfigError, match="FLYWHEEL__SERVING__TOKEN"):
        _ = create_app(_services(Serving(host="0.0.0.0")))


def _services(settings: Serving):
    from types import SimpleNamespace

    return SimpleNamespace(settings=settings)
