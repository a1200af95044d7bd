"""The training loop that every tier shares: steps, schedule, development scores, checkpoints, budget.

It knows nothing of models or files: what trains, and where its state is kept, are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from trainer.process.run import OverBudget, Run

WARMUP_STEPS = 6
WEIGHT_DECAY = 0.01
CLIP = 1.0
Parameters = Mapping[str, torch.nn.Parameter]


@dataclass(frozen=True)
class DevScore:
    """nDCG@10 of each held-out query, separately for documents that train elsewhere and for those that never do."""

    seen: npt.NDArray[np.float64]
    unseen: npt.NDArray[np.float64]

    @property
    def all(self) -> npt.NDArray[np.float64]:
        """Both parts."""
        return np.concatenate([self.seen, self.unseen])

    def means(self) -> dict[str, float | None]:
        """Each part's mean; None where it has no query."""
        parts = {"all": self.all, "seen": self.seen, "unseen": self.unseen}
        return {name: round(float(part.mean()), 4) if len(part) else None for name, part in parts.items()}


class Learner(Protocol):
    """What a tier brings to the loop."""

    def parameters(self) -> Parameters:
        """The parameters that train, by name."""

    def loss(self, step: int) -> torch.Tensor:
        """The loss of this step's batch, with gradients."""

    def score(self) -> DevScore:
        """How the parameters as they stand rank the held-out queries."""


@dataclass
class Fitted:
    """How the loop went."""

    steps: int = 0
    stopped: str = "all steps done"
    seconds: float = 0.0
    resumed_from: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)


def fit(learner: Learner, run: Run, *, steps: int, learning_rate: float, evaluate_every: int = 10) -> Fitted:
    """Train in place; returns how it went. A run resumed from its checkpoint ends with the bits of an unbroken one.

    AdamW, linear warm-up and decay, clipped gradients. It stops early when held-out queries score clearly worse than
    with the champion, and goes back to their best state. When the time is up, it keeps the last state. The bar is not
    the best score: the labels come from pages that the champion ranked, which favours whatever ranks like it, so a fall
    from a lucky peak says little. The first score may be worse, because the learning rate still rises.

    Raises:
        ValueError: held-out queries were clearly worse at every evaluation.
    """
    parameters = dict(learner.parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    progress, best = _Best(learner.score()), Fitted()
    first = _resume(run, parameters, optimizer, best, progress)
    best.resumed_from = first
    loss_value, started = float("nan"), run.seconds
    for step in range(first, steps):
        if run.out_of_time():
            if step == 0:
                raise OverBudget("the time was up before the first step; raise limits.train_minutes")
            best.stopped = "time budget"
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule(step, steps)
        optimizer.zero_grad(set_to_none=True)
        loss = learner.loss(step)
        torch.autograd.backward(loss)
        run.processes.add_up(parameters.values())
        torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        optimizer.step()
        loss_value, best.steps = float(loss.detach()), step + 1
        if not np.isfinite(loss_value):
            raise FloatingPointError(f"the loss is {loss_value} at step {step + 1}; lower trainer.learning_rate")
        if (step + 1) % evaluate_every == 0 or step + 1 == steps:
            score = learner.score()
            best.history.append({"step": step + 1, "loss": round(loss_value, 4), **score.means()})
            early = len(best.history) == 1 and step + 1 < steps
            if progress.worse(score, parameters, step + 1, early=early):
                best.stopped = f"held-out queries got worse after step {progress.step}"
                break
        run.report(phase="training", step=step + 1, steps=steps, loss=loss_value, dev=_last(best.history))
        run.check_memory()
        if run.checkpoint_due():
            run.save_checkpoint(_state(parameters, optimizer, progress), {"step": step + 1, "history": best.history})
    progress.settle(best, parameters)
    best.seconds = run.seconds - started
    return best


def merge(learner: Learner, champion: Mapping[str, torch.Tensor], *, share: float) -> tuple[float, DevScore]:
    """Mix `share` of the trained weights with the rest of `champion`, unless the held-out queries clearly lose by it.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, 2022. They mix with the model before any tuning.
    Here each run would then give back a part of all earlier ones (0.85 to the seventh is 0.3). Returns the share that
    was kept (1.0: none of the champion) and the scores with it.
    """
    trained, parameters = learner.score(), learner.parameters()
    if share >= 1:
        return 1.0, trained
    kept = {name: value.detach().clone() for name, value in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(share * kept[name] + (1 - share) * champion[name].to(parameter))
        merged = learner.score()
        if not clearly_worse(merged.all, trained.all):
            return share, merged
        for name, parameter in parameters.items():
            parameter.copy_(kept[name])
    return 1.0, trained


def schedule(step: int, steps: int, *, warmup: int = WARMUP_STEPS) -> float:
    """Share of the peak learning rate at this step: it rises over `warmup` steps, then falls to zero in a line."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def clearly_worse(now: npt.NDArray[np.float64], before: npt.NDArray[np.float64], *, errors: float = 2.0) -> bool:
    """Whether paired scores fell by more than `errors` standard errors, so that noise of a small set stops nothing."""
    difference = now - before
    if len(difference) < 5:  # too few for a standard error
        return False
    spread = float(difference.std(ddof=1)) / len(difference) ** 0.5
    return bool(difference.mean() < -errors * spread) and spread > 0


class _Best:
    """The best state so far by the held-out queries."""

    def __init__(self, start: DevScore) -> None:
        self.start = start
        self.score: DevScore | None = None
        self.state: dict[str, torch.Tensor] = {}
        self.step = 0

    def worse(self, score: DevScore, parameters: Parameters, step: int, *, early: bool) -> bool:
        """Take note of a score; True when it is clearly worse than at the start, on all or on unseen documents.

        Such a score is never the best one. An `early` one is not reported as worse.
        """
        best, start = self.score, self.start
        if clearly_worse(score.all, start.all) or clearly_worse(score.unseen, start.unseen):
            return not early
        if best is None or (len(score.all) and score.all.mean() >= best.all.mean()):
            self.score, self.step = score, step
            self.state = {name: value.detach().clone() for name, value in parameters.items()}
        return False

    def settle(self, fitted: Fitted, parameters: Parameters) -> None:
        """Restore the best state where the loop stopped for getting worse; ValueError where none was good."""
        if fitted.history and self.score is None:
            raise ValueError(
                f"held-out queries were clearly worse than with the champion at every look, the last by step "
                f"{fitted.steps}: nothing is kept; lower trainer.learning_rate"
            )
        if not fitted.stopped.startswith("held-out"):
            return
        fitted.steps = self.step
        with torch.no_grad():
            for name, value in self.state.items():
                parameters[name].copy_(value)


def _last(history: list[dict[str, float | int | None]]) -> float | None:
    return history[-1]["all"] if history else None


def _state(parameters: Parameters, optimizer: torch.optim.Optimizer, best: _Best) -> dict[str, torch.Tensor]:
    state = {f"now.{name}": value.detach() for name, value in parameters.items()}
    state |= {f"best.{name}": value for name, value in best.state.items()}
    for (name, _), slots in zip(parameters.items(), optimizer.state.values(), strict=True):
        state |= {f"{slot}.{name}": slots[slot] for slot in ("exp_avg", "exp_avg_sq", "step")}
    if best.score is not None:
        state["score.seen"], state["score.unseen"] = (
            torch.from_numpy(part) for part in (best.score.seen, best.score.unseen)
        )
        state["score.step"] = torch.tensor(best.step)
    return state


def _resume(run: Run, parameters: Parameters, optimizer: torch.optim.Optimizer, fitted: Fitted, best: _Best) -> int:
    """Restore the checkpoint's state if there is one; returns the step to go on with."""
    loaded = run.load_checkpoint()
    if loaded is None:
        return 0
    state, facts = loaded
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[f"now.{name}"])
            optimizer.state[parameter] = {slot: state[f"{slot}.{name}"] for slot in ("step", "exp_avg", "exp_avg_sq")}
    if "score.step" in state:
        best.score = DevScore(state["score.seen"].numpy(), state["score.unseen"].numpy())
        best.step = int(state["score.step"])
        best.state = {name: state[f"best.{name}"] for name in parameters}
    fitted.history[:] = facts["history"]
    fitted.steps = int(facts["step"])
    return fitted.steps
