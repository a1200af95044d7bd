"""The table of what is explored."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.store import Store
from flywheel.store.feedback.exploration import Explored
from flywheel.store.schema.errors import StoreError
from tests.store.make import NOW, rows


def explored(doc_id: str, rank: int | None = 2, **fields: object) -> Explored:
    """A slot, or a document without one."""
    slot = (rank, None, None, None) if rank is None else (rank, "b", 0.9, 0.01)
    values = ("deep copy", "Deep copy?", doc_id, "lexical", "open", 0.02, 0.03, 4.0, 1.0, *slot, "v1")
    made = dict(zip(Explored.__slots__, values, strict=True)) | fields
    return Explored(**made)  # type: ignore[arg-type]


def test_a_plan_survives_the_process(tmp_path: Path) -> None:
    """What was written is what the next process reads: slots, and documents that wait for one."""
    plan = [explored("x"), explored("y", rank=None, state="waiting")]
    with Store.open(tmp_path / "f.duckdb", memory_gb=1) as store:
        store.exploration.replan(plan, NOW)
    with Store.open(tmp_path / "f.duckdb", memory_gb=1) as store:
        assert store.exploration.slots() == plan[:1]
        assert store.exploration.all() == plan


def test_a_new_plan_takes_all_slots_and_keeps_the_history(store: Store) -> None:
    """Who is not in it waits, who is settled keeps its verdict, and the first day of each is remembered."""
    store.exploration.replan([explored("x"), explored("y", rank=3)], NOW)
    store.exploration.replan([explored("x", rank=None, state="dropped"), explored("z")], NOW + 1_000)
    assert [row.doc_id for row in store.exploration.slots()] == ["z"]
    assert [(row.doc_id, row.state) for row in store.exploration.all()] == [
        ("x", "dropped"),
        ("y", "waiting"),
        ("z", "open"),
    ]
    assert store.exploration.counts() == {"dropped": 1, "open": 1, "waiting": 1}
    found = rows(store, "SELECT doc_id, epoch_ms(opened_at) FROM exploration ORDER BY doc_id")
    assert found == [("x", NOW), ("y", NOW), ("z", NOW + 1_000)]


def test_a_plan_is_written_whole_or_not_at_all(store: Store) -> None:
    """A row that the table refuses leaves the earlier plan in force."""
    store.exploration.replan([explored("x")], NOW)
    with pytest.raises(StoreError, match="NOT NULL"):
        store.exploration.replan([explored("z"), explored("broken", state=None)], NOW)
    assert [row.doc_id for row in store.exploration.slots()] == ["x"]
