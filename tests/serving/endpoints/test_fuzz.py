"""Every path of the API under bodies that are nearly right: an answer each time, and none of them gives us away."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.serving.endpoints.control import ALLOWED
from flywheel.settings.load import Limits
from tests.serving.house import House, serve

REQUESTS = 10_000 if os.environ.get("FLYWHEEL_TEST_SOAK") else 600
OURS = re.compile(r"Traceback|\.py\b|site-packages|, line \d|secret internals|/flywheel/|object at 0x")

words = st.sampled_from(
    ["sort", "champion", "base", "m2", "golden", "documents", "query", "click", "", "\x00", "'", "é"]
)
texts = st.one_of(words, st.text(max_size=40), st.text(st.characters(codec=None), max_size=8))
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    texts,
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def near(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The fields that belong there, some of them missing or of another kind."""
    loose = {name: st.one_of(field, values) for name, field in fields.items()}
    return st.one_of(st.fixed_dictionaries({}, optional=loose), st.fixed_dictionaries(dict(fields)), values)


few = st.lists(texts, max_size=3)
target = near(object_id=texts)
attributes = near(object=target, position=near(ordinal=st.integers()), dwell_ms=st.integers())
event = near(action_name=texts, query_id=texts, client_id=texts, timestamp=plain, event_attributes=attributes)
page = near(query_id=texts, user_query=texts, client_id=texts, query_response_hit_ids=few)
judged = st.lists(near(id=texts, text=texts), max_size=3)
grades = st.lists(near(query_id=texts, doc_id=texts, grade=plain), max_size=3)
operation = near(
    wait=st.just(False), tier=texts, version=texts, kind=words, records=st.lists(values, max_size=3), name=texts,
    queries=judged, judgements=grades, user_id=texts, path=texts, reason=texts, actor=texts,
)  # fmt: skip
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "/v1/ubi/queries": st.one_of(page, st.lists(page, max_size=4)),
    "/v1/ubi/events": st.one_of(event, st.lists(event, max_size=4)),
    "/v1/search": near(query=texts, k=st.integers(), client_id=texts, session_id=texts, filters=near(doc_ids=few)),
    "/v1/embeddings": near(input=st.one_of(texts, few), model=words, input_type=texts, dimensions=st.integers()),
    "/v1/sql": near(query=texts),
    "/v1/promote": near(version=texts, reason=texts, actor=texts),
    "/v1/rollback": near(reason=texts, actor=texts),
    "/v1/pause": near(),
    "/v1/resume": near(),
    "/login": near(token=texts),
    "/logout": near(),
    **{f"/v1/ops/{name}": operation for name in ALLOWED},
}
GETS = ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/experiments", "/v1/status", "/v1/nothing"]
KINDS = ["application/json", "application/x-ndjson", "application/sql", "text/plain", "", "application/json; charset=x"]


def _written(value: Any) -> bytes:
    return json.dumps(value).encode()


paths = st.sampled_from(sorted(BODIES))
requests = st.one_of(
    paths.flatmap(
        lambda path: st.tuples(st.just("POST"), st.just(path), BODIES[path].map(_written), st.just(KINDS[0]))
    ),
    st.tuples(st.just("POST"), paths, st.binary(max_size=60), st.sampled_from(KINDS)),
    st.tuples(
        st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]),
        st.sampled_from([*GETS, *BODIES]),
        st.just(b""),
        st.just(""),
    ),
)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with serve(limits=Limits(requests_per_second=1e6)) as running:
        running.operations.resume = lambda: {"paused": False}  # type: ignore[method-assign]
        running.operations.blocked.set()
        yield running


@settings(max_examples=REQUESTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=requests)
def test_nothing_that_is_sent_is_an_error_of_ours(house: House, asked: tuple[str, str, bytes, str]) -> None:
    """No 500, no hang, and no answer that names a file or a line of ours."""
    method, path, body, kind = asked
    headers = {"content-type": kind} if kind else {}
    answer = house.http.request(method, path, content=body, headers=headers, timeout=httpx.Timeout(20))
    assert answer.status_code < 500, answer.text
    if path not in ("/", "/metrics"):
        assert not OURS.search(answer.text), answer.text
