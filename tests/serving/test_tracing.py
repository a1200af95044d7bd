"""Traces: one search is one trace, from the request to its page's log, with the ids of the tables."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flywheel.serving.tracing import exported, none, spans_of
from flywheel.settings.watching import Traces
from tests.serving.house import serve

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_search_is_one_trace_down_to_its_pages_log() -> None:
    """Ranking and logging are children of the search, which belongs to the caller's trace and names the page."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with serve(spans=spans_of(provider.get_tracer("test"))) as house:
        answer = house.http.post("/v1/search", json={"query": "sort a list"}, headers={"traceparent": PARENT})
        house.http.post("/v1/search", json={"query": "sort a list"})
    page = answer.json()
    spans = {span.name: span for span in kept.get_finished_spans()[:3]}
    assert set(spans) == {"search", "rank", "log page"}
    search = spans["search"]
    assert f"{search.context.trace_id:032x}" == PARENT.split("-")[1]
    assert search.parent is not None
    assert f"{search.parent.span_id:016x}" == PARENT.split("-")[2]
    assert all(spans[name].parent.span_id == search.context.span_id for name in ("rank", "log page"))  # type: ignore[union-attr]
    told = dict(search.attributes or {})
    assert told["flywheel.query_id"] == page["query_id"]
    assert told["flywheel.version"] == page["model_version"]
    assert told["flywheel.hits"] == len(page["hits"])
    assert "flywheel.experiment_id" not in told, "it was no part of one"
    assert "sort a list" not in str(told), "what people type goes to no collector"
    assert dict(spans["log page"].attributes or {})["flywheel.acknowledged"] is True
    assert len({span.context.trace_id for span in kept.get_finished_spans()}) == 2


def test_without_the_setting_nothing_is_recorded() -> None:
    """Switched off, as they are by default, spans take any note and keep none."""
    assert exported(Traces()) is none
    with none("search", {}) as note:
        note(query_id="x", hits=3)
