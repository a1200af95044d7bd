"""Decisions: one transaction, once, announced, and a way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel.stats.budget import Spent
from flywheel.store import Store, StoreError
from flywheel.store.evaluation.decisions import SPENT, Decision, spent
from flywheel.store.training.models import Model
from flywheel.store.training.runs import TrainingRun
from tests.store.make import NOW, rows


@pytest.fixture
def store(store: Store) -> Store:
    """A store with three versions."""
    for version in ("a", "b", "c"):
        store.models.add(Model(version, "query_tower", f"models/{version}", "space", NOW))
    return store


def switch(decision_id: str, version: str, kind: str = "promote", **fields: Any) -> Decision:
    """A decision that makes a version the champion."""
    return Decision(decision_id, kind, version, "flywheel", NOW, alias="champion", **fields)


def test_a_decision_and_all_that_it_changes_go_in_together(store: Store) -> None:
    """Alias, both models' states and the run's state follow in the same transaction."""
    store.decisions.decide(switch("1", "a", "initial"))
    store.runs.start(TrainingRun("r1", "manual", "query_tower", "gate", NOW), "owner")
    made = switch("2", "b", run_id="r1", reasons=("better",), evidence={"n": 3}, spent=0.01, previous="a")
    assert store.decisions.decide(made, run_state="done")
    assert store.models.aliases() == {"champion": "b"}
    assert {model.version: model.state for model in store.models.all()} == {
        "a": "retired",
        "b": "champion",
        "c": "candidate",
    }
    ended = store.runs.get("r1")
    assert ended is not None
    assert ended.state == "done"
    assert store.decisions.get("2") == made


def test_deciding_twice_changes_nothing(store: Store) -> None:
    """The same id again, with whatever content, is not a second row and not a second switch."""
    assert store.decisions.decide(switch("1", "a"))
    assert not store.decisions.decide(switch("1", "b"))
    assert store.models.aliases() == {"champion": "a"}
    assert rows(store, "SELECT count(*) FROM decisions") == [(1,)]


def test_an_unknown_version_is_refused_and_nothing_is_written(store: Store) -> None:
    """No decision without its switch."""
    with pytest.raises(StoreError, match="no model version nowhere"):
        store.decisions.decide(switch("1", "nowhere"))
    assert store.decisions.all() == []


def test_the_outbox_holds_switches_until_they_are_announced(store: Store, path: Path) -> None:
    """Rejections are not announced; a switch is offered until it is marked, across restarts, and marked once."""
    store.decisions.decide(switch("1", "a"))
    store.decisions.decide(Decision("2", "reject", "b", "flywheel", NOW))
    store.decisions.decide(switch("3", "c"))
    assert [decision.decision_id for decision in store.decisions.unannounced()] == ["1", "3"]
    assert store.decisions.mark_announced("1", NOW)
    assert not store.decisions.mark_announced("1", NOW + 5)
    store.close()
    with Store.open(path) as again:
        assert [decision.decision_id for decision in again.decisions.unannounced()] == ["3"]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], None),
        ([("initial", "a")], None),
        ([("initial", "a"), ("promote", "b")], "a"),
        ([("initial", "a"), ("promote", "b"), ("promote", "c")], "b"),
        ([("initial", "a"), ("promote", "b"), ("promote", "c"), ("rollback", "b")], "a"),
        ([("initial", "a"), ("promote", "b"), ("rollback", "a")], None),
        ([("initial", "a"), ("promote", "b"), ("rollback", "a"), ("promote", "c")], "a"),
        ([("initial", "a"), ("promote", "b"), ("manual", "a")], "b"),
    ],
)
def test_rollback_goes_to_the_champion_before(
    store: Store, history: list[tuple[str, str]], expected: str | None
) -> None:
    """Two rollbacks go two back, never forward to what was rolled back."""
    for number, (kind, version) in enumerate(history):
        store.decisions.decide(switch(str(number), version, kind))
    assert store.decisions.previous_champion() == expected


def test_clearing_an_alias(store: Store) -> None:
    """A challenger that lost gives up its role with the decision that says so."""
    store.decisions.decide(Decision("1", "manual", "b", "ops", NOW, alias="challenger"))
    store.decisions.decide(
        Decision("2", "reject", "b", "flywheel", NOW), clear=("challenger",), states={"b": "rejected"}
    )
    assert store.models.aliases() == {}
    lost = store.models.get("b")
    assert lost is not None
    assert lost.state == "rejected"


def test_the_latest_decisions_come_newest_first(store: Store) -> None:
    """Order is that of deciding, not of clocks."""
    for number in range(3):
        store.decisions.decide(Decision(str(number), "reject", "b", "flywheel", NOW - number))
    assert [decision.decision_id for decision in store.decisions.latest(2)] == ["2", "1"]


def test_what_the_budget_knows_is_the_same_for_gates_and_for_plans(store: Store) -> None:
    """Time of the evidence, else of the decision; a promotion that a rollback undid is known to be false; what spent
    nothing is left out. Whoever asks the statement itself gets the same."""
    store.decisions.decide(Decision("1", "reject", "a", "flywheel", NOW, spent=0.01, evidence={"until_ms": 3}))
    store.decisions.decide(switch("2", "b", spent=0.02, evidence={"until_ms": None}))
    store.decisions.decide(switch("3", "c", spent=0.03, evidence={"until_ms": 4}))
    store.decisions.decide(switch("4", "b", "rollback", previous="c"))
    known = [Spent(0.01, False, 3), Spent(0.02, True, NOW), Spent(0.03, True, 4, rolled_back=True)]
    assert store.decisions.spent() == known
    assert spent(store.sql.query(SPENT).to_pylist()) == known
