"""What the store says of neighbours in a random order."""

from __future__ import annotations

from flywheel.events import Kind
from flywheel.store import Store
from flywheel.store.published.questions import pages_seen, preferences
from tests.store.make import NOW, batch, event, query


def test_a_click_below_and_none_above_is_a_preference(store: Store) -> None:
    """The view names both neighbours and what was clicked, by page; the statement counts them by couple and order."""
    pages = [query(f"q{number}", client_key=f"c{number}", fair_pair=2) for number in range(4)]
    pages += [query("q4", client_key="c4", hit_ids=("d1", "d3", "d2"), fair_pair=2), query("q5", client_key="c5")]
    acts = [("q0", "d3"), ("q1", "d3"), ("q1", "d2"), ("q2", "d1"), ("q4", "d2"), ("q5", "d3")]
    clicks = [event(f"e{number}", query_id=page, doc_id=doc) for number, (page, doc) in enumerate(acts)]
    clicks.append(event("bought", kind=Kind.PURCHASE, query_id="q3", doc_id="d3"))
    store.feedback.ingest(batch(queries=pages, events=clicks), "c", NOW)
    view = "SELECT query_id, upper, lower, upper_clicked, lower_clicked FROM preferences ORDER BY query_id"
    assert [tuple(row.values()) for row in store.sql.query(view).to_pylist()] == [
        ("q0", "d2", "d3", False, True),
        ("q1", "d2", "d3", True, True),
        ("q2", "d2", "d3", False, False),
        ("q3", "d2", "d3", False, True),
        ("q4", "d3", "d2", False, True),
    ]
    counted = store.sql.query(preferences(10)).to_pylist()
    assert [(row["upper"], row["lower"], row["preferred"], row["pages"]) for row in counted] == [
        ("d2", "d3", 2, 4),
        ("d3", "d2", 1, 1),
    ]
    assert sum(row["fair"] for row in store.sql.query(pages_seen(10)).to_pylist()) == 5


def test_sorted_pages_and_paid_places_prefer_nothing(store: Store) -> None:
    """Neither says anything about relevance, whoever stood above; and a pair beyond the page is none."""
    pages = [
        query("q1", client_key="a", fair_pair=1, sorted_by="price"),
        query("q2", client_key="b", fair_pair=1, sponsored=("d2",)),
        query("q3", client_key="c", fair_pair=2, sponsored=("d1",)),
        query("q4", client_key="d", fair_pair=3),
    ]
    store.feedback.ingest(batch(queries=pages), "c", NOW)
    assert [row["upper"] for row in store.sql.query("SELECT * FROM preferences").to_pylist()] == ["d2"]
