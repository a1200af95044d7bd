"""The parts of a run's queries: disjoint, of the right size, and others in each run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa

from flywheel.learning.folds import AUTO, Folds
from flywheel.store.training.runs import TrainingRun
from trainer.data.dataset import held_out

KEYS = [f"query {number}" for number in range(4_000)]


def test_stopping_guarding_and_choosing_have_parts_of_their_own() -> None:
    """Half of the share each stops and guards, a whole share more chooses, the rest trains."""
    parts = Counter(Folds("run-1", 0.1, field=True).query(key) for key in KEYS)
    assert {name: round(count / len(KEYS), 2) for name, count in parts.items()} == {
        "stop": 0.05, "guard": 0.05, "choose": 0.1, "train": 0.8,
    }  # fmt: skip


def test_a_named_tier_holds_out_what_it_always_did() -> None:
    """The trainer's own held-out queries and documents guard it, in every run."""
    for epoch in ("run-1", "run-2"):
        alone = Folds(epoch, 0.1, field=False)
        for key in KEYS:
            assert (alone.query(key) == "guard") == held_out(key, 0.1, kind="query")
            assert alone.document(key) == held_out(key, 0.1, kind="document")


def test_a_repeated_run_draws_the_parts_that_it_had() -> None:
    """The champion and the evidence draw them, not the number of the run: a repetition is no second choice."""
    run = TrainingRun("run-1", "manual", AUTO, "started", 1, parent="base", version="v1", seed=1, until_ms=5)
    again = replace(run, run_id="run-2", seed=2, version="v2")
    assert Folds.of(run, 0.1) == Folds.of(again, 0.1)
    assert Folds.of(run, 0.1) != Folds.of(replace(again, until_ms=6), 0.1)


def test_each_run_draws_its_own_parts() -> None:
    """Of what one run holds out, the next trains as much as of any other query."""
    first, second = (Folds(run, 0.1, field=True) for run in ("run-1", "run-2"))
    held = [key for key in KEYS if first.query(key) != "train"]
    assert 0.75 < sum(second.query(key) == "train" for key in held) / len(held) < 0.85


def test_the_trainer_sees_no_query_that_chooses_or_guards() -> None:
    """They are not in the snapshot at all; what was held out of the champion's run is new to it."""
    folds, before = Folds("run-2", 0.1, field=True), Folds("run-1", 0.1, field=True)
    pairs = pa.table({"query": KEYS, "doc_id": ["d"] * len(KEYS), "source": ["replay"] * len(KEYS)})
    left = folds.split(pairs, before).to_pylist()
    assert {folds.query(row["query"]) for row in left} == {"train", "stop"}
    gone = before.document("d")
    for row in left:
        assert (row["source"] == "new") == (gone or before.query(row["query"]) != "train")
