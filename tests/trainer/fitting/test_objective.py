"""What a step's loss weighs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flywheel.retrieval.encoder import route
from flywheel.retrieval.origin import resolve_base_model
from tests.trainer.collection import pairs, snapshot
from trainer.data import examples
from trainer.data.dataset import read_snapshot
from trainer.fitting import modeldir
from trainer.fitting.objective import Objective
from trainer.fitting.tower import tower_of


def test_a_part_of_a_batch_weighs_as_that_part(tmp_path: Path) -> None:
    """Eight queries weigh half as much where a batch has room for sixteen, and no more where it has room for four."""
    table = pairs().slice(0, 8)
    here = read_snapshot(snapshot(tmp_path / "s", pairs=table, dev_share=0.0, batch_size=8))
    plan = examples.plan(here, steps=1)
    modules = route(modeldir.load(resolve_base_model("auto"), max_seq_length=64, device="cpu"), "query")
    tower = tower_of(modules, layers=1, bf16=False, device="cpu")
    tower.read(list(plan.examples.queries))
    losses = []
    for size in (4, 8, 16):
        recipe = here.recipe.model_copy(update={"batch_size": size})
        objective = Objective(dataclasses.replace(here, recipe=recipe), tower, plan, None, device="cpu")
        losses.append(objective.loss(0).item())
    assert losses == pytest.approx([losses[1], losses[1], losses[1] / 2])
