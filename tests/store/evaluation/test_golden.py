"""Judged sets: versioned by content, the newest of a name in force, their queries known for ever."""

from __future__ import annotations

import pytest

from flywheel.store import Store
from tests.store.make import NOW, rows

QUERIES = {"q1": "Copy a list?", "q2": "Sort a dict"}
JUDGED = [("q1", "d1", 2.0), ("q2", "d2", 1.0), ("nobody", "d3", 1.0)]


def test_a_set_comes_back_as_it_was_given(store: Store) -> None:
    """Queries with their graded documents; judgements of unknown queries are left out."""
    version = store.golden.add("golden", "faq", QUERIES, JUDGED, NOW)
    (found,) = store.golden.current("golden")
    assert (found.name, found.version, found.query_ids) == ("faq", version, ("q1", "q2"))
    assert found.queries == ("Copy a list?", "Sort a dict")
    assert found.judgements == ({"d1": 2.0}, {"d2": 1.0})
    assert store.golden.current("anchor") == []


def test_the_version_is_the_contents(store: Store) -> None:
    """The same content in any order is the same version, stored once; a changed grade is another."""
    first = store.golden.add("golden", "faq", QUERIES, JUDGED, NOW)
    again = store.golden.add("golden", "faq", dict(reversed(QUERIES.items())), JUDGED[::-1], NOW + 1)
    other = store.golden.add("golden", "faq", QUERIES, [("q1", "d1", 1.0)], NOW + 2)
    assert first == again != other
    assert rows(store, "SELECT count(*) FROM golden_queries") == [(4,)]
    assert [found.version for found in store.golden.current()] == [other]
    store.golden.add("golden", "faq", QUERIES, JUDGED, NOW + 3)
    assert [found.version for found in store.golden.current()] == [first]


def test_queries_of_every_import_are_kept_out_of_training(store: Store) -> None:
    """Also those of a version that is no longer in force, by their normalised text."""
    store.golden.add("golden", "faq", {"q1": "Old  QUESTION?"}, [], NOW)
    store.golden.add("golden", "faq", {"q1": "new question"}, [], NOW + 1)
    assert store.golden.query_keys() == {"old question", "new question"}


def test_an_unknown_kind_is_refused(store: Store) -> None:
    """Golden or anchor, nothing else."""
    with pytest.raises(ValueError, match="golden or anchor"):
        store.golden.add("silver", "faq", QUERIES, JUDGED, NOW)
