"""One person taken out, everybody else left in."""

from __future__ import annotations

from flywheel.store import Store
from tests.store.make import NOW, batch, event, query, rows


def test_everything_of_a_person_goes_and_nothing_else(store: Store) -> None:
    """Pages and events by either key, feedback on those pages without a key, and dead letters with the raw id."""
    store.feedback.ingest(
        batch(
            queries=[query("q1", user_key="u"), query("q2", client_key="c"), query("q3")],
            events=[
                event("e1", query_id="q1", client_key=None),
                event("e2", query_id="q3", user_key="u"),
                event("e3", query_id="q3"),
            ],
            letters=[b'{"user_id": "ann@example.com"', b'{"user_id": "J\\u00fcrgen"', b"other"],
        ),
        "cluster",
        NOW,
    )
    erased = store.erasure.erase_user(["u", "c"], ["ann@example.com", "Jürgen"])
    assert (erased.queries, erased.feedback, erased.dead_letters, erased.total) == (2, 2, 2, 6)
    assert rows(store, "SELECT query_id FROM queries") == [("q3",)]
    assert rows(store, "SELECT event_id FROM feedback") == [("e3",)]
    assert rows(store, "SELECT payload FROM dead_letters") == [(b"other",)]


def test_erasing_nobody_changes_nothing(store: Store) -> None:
    """Unknown keys and empty ids match no row."""
    store.feedback.ingest(batch(queries=[query("q1", user_key=None)], letters=[b"x"]), "cluster", NOW)
    assert store.erasure.erase_user(["nobody"], [""]).total == 0
    assert store.erasure.erase_user([]).total == 0
    assert rows(store, "SELECT count(*) FROM queries") == [(1,)]
