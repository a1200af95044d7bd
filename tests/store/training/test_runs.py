"""Training runs: one at a time, whatever crashed."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.gates.triggers import Check
from flywheel.store import Store
from flywheel.store.training.runs import RunActive, TrainingRun
from tests.store.make import NOW


def run(run_id: str, started_ms: int = NOW) -> TrainingRun:
    """A run that has just begun."""
    return TrainingRun(run_id, "manual", "query_tower", "started", started_ms, until_ms=NOW)


def test_a_run_is_kept_as_it_was_given(store: Store) -> None:
    """Every field survives, and updates change only theirs."""
    store.runs.start(run("r1"), "me")
    assert store.runs.get("r1") == run("r1")
    store.runs.update("r1", state="gate", report={"loss": [1, 2]}, seed=3)
    found = store.runs.get("r1")
    assert found is not None
    assert (found.state, found.report, found.seed, found.trigger) == ("gate", {"loss": [1, 2]}, 3, "manual")


def test_only_one_run_is_active(store: Store) -> None:
    """A second is refused with the first one's name, and may start when that has ended."""
    store.runs.start(run("r1"), "me")
    with pytest.raises(RunActive, match="r1"):
        store.runs.start(run("r2"), "me")
    assert store.runs.get("r2") is None
    store.runs.finish("r1", "failed", NOW, error="out of memory")
    store.runs.start(run("r2"), "me")
    active = store.runs.active()
    assert active is not None
    assert active.run_id == "r2"


def test_a_crash_leaves_a_run_that_the_next_process_finds(path: Path) -> None:
    """It is still the active one; it can be taken over and ended, and blocks nothing after that."""
    with Store.open(path) as store:
        store.runs.start(run("r1"), "first process")
    with Store.open(path) as store:
        found = store.runs.active()
        assert found is not None
        assert found.run_id == "r1"
        store.runs.take_over("r1", "second process")
        store.runs.finish("r1", "done", NOW)
        assert store.runs.active() is None


def test_an_end_is_final(store: Store) -> None:
    """Ending twice keeps the first end."""
    store.runs.start(run("r1"), "me")
    store.runs.finish("r1", "done", NOW)
    store.runs.finish("r1", "failed", NOW + 5, error="late")
    found = store.runs.last("done")
    assert found is not None
    assert (found.finished_at_ms, found.error) == (NOW, None)


def test_columns_that_may_not_be_set_are_refused(store: Store) -> None:
    """Names reach the statement only from the list."""
    with pytest.raises(ValueError, match="started_at"):
        store.runs.update("r1", started_at="x")
    with pytest.raises(ValueError, match="done, failed, refused"):
        store.runs.finish("r1", "gate", NOW)


def test_checks_are_recorded_fired_or_not(store: Store) -> None:
    """Why it did not retrain has an answer, with value and threshold."""
    store.runs.record_checks(
        NOW, [Check("new_pairs", 3.0, 200.0, False, "3 of 200"), Check("cron", None, None, True, "due")]
    )
    found = {check["name"]: check for check in store.runs.checks()}
    assert found["new_pairs"] == {
        "ts_ms": NOW,
        "name": "new_pairs",
        "value": 3.0,
        "threshold": 200.0,
        "fired": False,
        "note": "3 of 200",
    }
    assert found["cron"]["fired"]
