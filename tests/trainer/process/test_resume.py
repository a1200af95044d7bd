"""A run that stops between two steps goes on to the bits of an unbroken one, in every tier; what stops it is said."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests import defaults
from tests.trainer.collection import pairs, snapshot
from trainer import __main__ as program
from trainer.data.dataset import read_snapshot
from trainer.data.recipe import Tier
from trainer.fitting import fit, modeldir
from trainer.outcome import NOTHING, NothingLearned
from trainer.process.launch import checkpoint_path, read_report
from trainer.process.run import OverBudget, Run

RUNS: list[tuple[Tier, dict[str, Any]]] = [
    ("query_tower", {}),
    ("query_tower", {"lora_rank": 2, "layers": 1}),
    ("query_tower", {"exact_documents": 10}),
    ("adapter", {}),
    ("full", {"matryoshka": [192], "hard_negatives": 1, "batch_size": 16}),
]


class PowerCut(Exception):
    """Stands for the end of the process: nothing after it runs."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True).state_dict()


@pytest.mark.parametrize(("tier", "recipe"), RUNS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_a_broken_run_ends_as_an_unbroken_one(
    tier: Tier, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after its third step's checkpoint, no model is there; started again, it ends with the same weights."""
    given = read_snapshot(snapshot(tmp_path / "s", tier=tier, **{"steps": 6, "batch_size": 8, "layers": 2, **recipe}))
    monkeypatch.setattr("trainer.tiers.adapter.STEPS", 6)
    monkeypatch.setattr("trainer.process.run.CHECKPOINT_SECONDS", 0.0)
    save, broken, whole = Run.save_checkpoint, tmp_path / "broken", tmp_path / "whole"

    def cut(self: Run, tensors: Any, facts: Any) -> None:
        save(self, tensors, facts)
        if facts["step"] == 3:
            raise PowerCut

    monkeypatch.setattr(Run, "save_checkpoint", cut)
    with pytest.raises(PowerCut):
        program.train(given, broken)
    assert checkpoint_path(broken).exists()
    assert not broken.exists()
    monkeypatch.setattr(Run, "save_checkpoint", save)
    report = program.train(given, broken)
    assert report["resumed_from"] == 3
    assert report["steps"] == program.train(given, whole)["steps"] == 6
    ours, theirs = weights(broken), weights(whole)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_another_seed_trains_other_weights(tmp_path: Path) -> None:
    """What makes two runs equal is the seed: another one draws other batches."""
    found = []
    for seed in (0, 1):
        given = read_snapshot(snapshot(tmp_path / f"s{seed}", tier="adapter", seed=seed, batch_size=8))
        header = given.header.__class__(**{**vars(given.header), "seed": seed})
        program.train(given.__class__(**{**vars(given), "header": header}), tmp_path / f"m{seed}")
        found.append(weights(tmp_path / f"m{seed}"))
    assert any(not torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_crash_while_saving_leaves_a_reason_and_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk full in the middle of the weights: exit code 1, the cause in the report, no directory of that name."""
    folder, out = snapshot(tmp_path / "s", tier="adapter", steps=2), tmp_path / "models" / "v1"

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(modeldir, "_flush", full)
    monkeypatch.setattr("trainer.tiers.adapter.STEPS", 2)
    assert program.main(["--snapshot", str(folder), "--out", str(out)]) == 1
    assert "No space left" in (read_report(out) or {})["error"]
    assert not out.exists()


def test_a_failure_after_the_report_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong once the report says that all is well, stands in it: no run ends badly without a reason."""
    folder, out = snapshot(tmp_path / "s", tier="adapter", steps=2), tmp_path / "models" / "v1"
    finish = Run.finish

    def last(self: Run, facts: Any) -> None:
        finish(self, facts)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "finish", last)
    monkeypatch.setattr("trainer.tiers.adapter.STEPS", 2)
    assert program.main(["--snapshot", str(folder), "--out", str(out)]) == 1
    assert "No space left" in (read_report(out) or {})["error"]


def test_no_time_at_all_is_a_refusal(tmp_path: Path) -> None:
    """A run whose time is up before its first step makes no version that equals its champion: it names the setting."""
    clock = itertools.count(step=100.0)
    run = Run(tmp_path / "v1", "id", defaults.training(minutes=1.0), clock=lambda: float(next(clock)))
    with pytest.raises(OverBudget, match=r"limits\.train_minutes"):
        fit.fit(Flat(), run, steps=5, learning_rate=0.1)


@pytest.mark.parametrize("steps", [10, 40])
def test_a_run_that_only_does_harm_keeps_nothing(tmp_path: Path, steps: int) -> None:
    """Worse than the champion at every look, it halves the rate three times, then answers what it tried."""
    learner = Falling(worse_from=1, until=99)
    with pytest.raises(NothingLearned, match="clearly worse") as found:
        fit.fit(learner, Run(tmp_path / "v1", "id", defaults.training()), steps=steps, learning_rate=0.1)
    assert [one["learning_rate"] for one in found.value.facts["tried"]] == [0.1, 0.05, 0.025, 0.0125]
    assert float(learner.weight.detach()) == 1.0


def test_half_the_rate_may_do_what_the_whole_did_not(tmp_path: Path) -> None:
    """The second try begins at the champion's weights, with half the rate, and its model is kept."""
    learner = Falling(worse_from=1, until=3)
    done = fit.fit(learner, Run(tmp_path / "v1", "id", defaults.training()), steps=20, learning_rate=0.1)
    alone = Flat()
    fit.fit(alone, Run(tmp_path / "v2", "id", defaults.training()), steps=20, learning_rate=0.05)
    assert (done.steps, done.learning_rate, len(done.tried)) == (20, 0.05, 1)
    assert torch.equal(learner.weight, alone.weight)


def test_a_loss_that_is_no_number_is_another_reason_to_slow_down(tmp_path: Path) -> None:
    """Where a step ends in infinity, the run begins again with half the rate instead of failing."""
    learner = Exploding()
    done = fit.fit(learner, Run(tmp_path / "v1", "id", defaults.training()), steps=8, learning_rate=0.1)
    assert (done.steps, done.learning_rate) == (8, 0.05)
    assert "the loss was inf at step 3" in done.tried[0]["why"]


def test_a_second_try_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in its second try, the run goes on there, with that rate, and ends with the bits of an unbroken one."""
    monkeypatch.setattr("trainer.process.run.CHECKPOINT_SECONDS", 0.0)
    save, cuts = Run.save_checkpoint, itertools.count()

    def cut(self: Run, tensors: Any, facts: Any) -> None:
        save(self, tensors, facts)
        if facts["tried"] and facts["step"] == 5 and not next(cuts):
            raise PowerCut

    monkeypatch.setattr(Run, "save_checkpoint", cut)
    with pytest.raises(PowerCut):
        fit.fit(Falling(1, 3), Run(tmp_path / "v1", "id", defaults.training()), steps=20, learning_rate=0.1)
    learner, whole = Flat(), Falling(1, 3)
    done = fit.fit(learner, Run(tmp_path / "v1", "id", defaults.training()), steps=20, learning_rate=0.1)
    fit.fit(whole, Run(tmp_path / "v2", "id", defaults.training()), steps=20, learning_rate=0.1)
    assert (done.resumed_from, done.learning_rate, len(done.tried)) == (5, 0.05, 1)
    assert torch.equal(learner.weight, whole.weight)


def test_nothing_learned_is_an_answer_of_its_own(tmp_path: Path) -> None:
    """Exit code 4, the reason under `nothing` and no error in the report, no directory of that name."""
    held = pairs().append_column("split", pa.array(["dev"] * len(pairs()), pa.string()))
    folder, out = snapshot(tmp_path / "s", tier="adapter", pairs=held), tmp_path / "models" / "v1"
    assert program.main(["--snapshot", str(folder), "--out", str(out)]) == NOTHING == 4
    report = read_report(out) or {}
    assert "held out" in report["nothing"]
    assert (report["version"], report["tier"], report["error"]) == ("v1", "adapter", None)
    assert not out.exists()


def test_a_first_dip_is_no_end(tmp_path: Path) -> None:
    """Worse at the first look alone, while the rate still rises, the run goes on and keeps what comes after."""
    done = fit.fit(
        Falling(worse_from=1, until=2), Run(tmp_path / "v1", "id", defaults.training()), steps=40, learning_rate=0.1
    )
    assert (done.steps, done.stopped) == (40, "all steps done")


def test_a_run_out_of_time_after_its_only_look_did_harm_keeps_nothing(tmp_path: Path) -> None:
    """The time may end before a second look: what is known by then is that the champion was better."""
    clock = itertools.count(step=1.0)
    run = Run(tmp_path / "v1", "id", defaults.training(minutes=1.0), clock=lambda: float(next(clock)))
    with pytest.raises(NothingLearned, match="clearly worse"):
        fit.fit(Falling(worse_from=1, until=2), run, steps=1_000, learning_rate=0.1)


class Flat:
    """A learner with one weight and nothing held out."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {"weight": self.weight}

    def loss(self, step: int) -> torch.Tensor:
        return self.weight.square().sum() + step

    def score(self) -> fit.DevScore:
        return fit.DevScore(*(torch.empty(0).double().numpy(),) * 2)


class Falling(Flat):
    """Ranks the held-out queries worse from one look on, until another; look 0 is the champion's."""

    def __init__(self, worse_from: int, until: int) -> None:
        super().__init__()
        self.looks, self.worse = itertools.count(), range(worse_from, until)

    def score(self) -> fit.DevScore:
        figures = torch.linspace(0.4, 0.6, 20).double().numpy() - 0.3 * (next(self.looks) in self.worse)
        figures = figures + torch.linspace(0, 1e-3, 20).double().numpy() * (figures < 0.35)
        return fit.DevScore(figures[:10], figures[10:])


class Exploding(Flat):
    """Its loss is infinite in the third step of its first way through them."""

    def __init__(self) -> None:
        super().__init__()
        self.thirds = itertools.count()

    def loss(self, step: int) -> torch.Tensor:
        bad = step == 2 and not next(self.thirds)
        return self.weight.square().sum() * (float("inf") if bad else 1.0)
