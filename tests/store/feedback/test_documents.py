"""Documents: the latest wins, and an index can follow."""

from __future__ import annotations

from flywheel.events import Document
from flywheel.store import Store
from tests.store.make import NOW


def test_the_latest_version_wins_in_any_order(store: Store) -> None:
    """By the sender's time, within one call and across calls; of equal times the one that came later."""
    versions = [Document("d", "second", "x", 2), Document("d", "first", "x", 1)]
    assert store.documents.upsert(versions, NOW) == 1
    assert store.documents.titles(["d", "unknown"]) == {"d": "second"}
    assert store.documents.upsert([Document("d", "older", "x", 1)], NOW) == 0
    store.documents.upsert([Document("d", "again", "x", 2)], NOW)
    assert store.documents.titles(["d"]) == {"d": "again"}


def test_an_index_can_follow_changes(store: Store) -> None:
    """Only changes of content or deletion are numbered anew, and each is seen after the last sequence."""
    store.documents.upsert([Document("a", "t", "x", 1), Document("b", "t", "y\n", 1)], NOW)
    first = store.documents.changed_since(0)
    assert [(change.doc_id, change.content, change.deleted) for change in first] == [
        ("a", "t x", False),
        ("b", "t y", False),
    ]
    store.documents.upsert([Document("a", "t", "x", 5)], NOW)
    assert store.documents.changed_since(first[-1].sequence) == []
    store.documents.upsert([Document("b", "t", "y\n", 6, deleted=True)], NOW)
    (gone,) = store.documents.changed_since(first[-1].sequence)
    assert (gone.doc_id, gone.deleted, gone.sequence) == ("b", True, store.documents.last_change())
    assert (store.documents.count(), store.documents.ids()) == (1, ["a"])
    assert store.documents.contents(["a", "b"]) == {"a": "t x"}


def test_changes_come_in_portions(store: Store) -> None:
    """A limit splits the list without a gap or a repeat."""
    store.documents.upsert([Document(f"d{number}", "t", "x", 1) for number in range(10)], NOW)
    seen: list[str] = []
    sequence = 0
    while portion := store.documents.changed_since(sequence, limit=3):
        seen += [change.doc_id for change in portion]
        sequence = portion[-1].sequence
    assert sorted(seen) == [f"d{number}" for number in range(10)]
