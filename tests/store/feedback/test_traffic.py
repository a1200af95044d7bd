"""What pages brought, and who asked what."""

from __future__ import annotations

from flywheel.events import Kind
from flywheel.store import Store
from flywheel.store.feedback.traffic import PageRates
from tests.store.make import DAY, NOW, batch, event, query


def test_satisfied_is_a_long_dwell_or_an_explicit_yes_without_a_thumb_down(store: Store) -> None:
    """Five pages: no feedback, a bounce, a dwell, a dwell that was voted down, a purchase; late feedback counts."""
    events = [
        event("c2", query_id="q2"),
        event("b2", kind=Kind.DWELL, query_id="q2", dwell_ms=3_000),
        event("c3", query_id="q3"),
        event("d3", NOW + 30 * DAY, Kind.DWELL, query_id="q3", dwell_ms=30_000),
        event("c4", query_id="q4"),
        event("d4", kind=Kind.DWELL, query_id="q4", dwell_ms=90_000),
        event("t4", kind=Kind.THUMBS_DOWN, query_id="q4"),
        event("p5", kind=Kind.PURCHASE, query_id="q5"),
    ]
    pages = [query(f"q{number}") for number in range(1, 6)] + [query("later", NOW + DAY)]
    store.feedback.ingest(batch(queries=pages, events=events), "c", NOW)
    rates = store.traffic.rates(NOW, NOW + DAY, satisfied_ms=30_000)
    assert rates == PageRates(pages=5, clicked=3, satisfied=2)
    assert rates.satisfied_ctr == 0.4


def test_no_pages_have_no_rate(store: Store) -> None:
    """Nothing shown is not a rate of zero."""
    assert store.traffic.rates(NOW, NOW + DAY, satisfied_ms=30_000).ctr is None
    assert store.traffic.span() is None


def test_queries_are_counted_by_their_normalised_text(store: Store) -> None:
    """Within the window, the most frequent first."""
    pages = [query("1", text="Copy?"), query("2", text="copy"), query("3", text="sort"), query("4", NOW + DAY)]
    store.feedback.ingest(batch(queries=pages), "c", NOW)
    assert list(store.traffic.query_counts(NOW, NOW + DAY).items()) == [("copy", 2), ("sort", 1)]
    assert store.traffic.span() == (NOW, NOW + DAY)
