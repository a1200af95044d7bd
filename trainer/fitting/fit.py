"""The training loop that every tier shares: steps, schedule, development scores, checkpoints, budget.

It knows nothing of models or files: what trains, and where its state is kept, are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from trainer.outcome import NothingLearned
from trainer.process.run import Checkpoint, OverBudget, Run

WARMUP_STEPS = 6
WEIGHT_DECAY = 0.01
CLIP = 1.0
HALVINGS = 3  # of the learning rate, before a run says that nothing was learned
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
    """How the loop went; `tried` has a line for each learning rate that was given up before this one."""

    steps: int = 0
    stopped: str = "all steps done"
    seconds: float = 0.0
    resumed_from: int = 0
    learning_rate: float = 0.0
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)


def fit(learner: Learner, run: Run, *, steps: int, learning_rate: float, evaluate_every: int = 10) -> Fitted:
    """Train in place; returns how it went. A run resumed from its checkpoint ends with the bits of an unbroken one.

    AdamW, linear warm-up and decay, clipped gradients. It stops early when held-out queries score clearly worse than
    with the champion, and goes back to their best state. When the time is up, it keeps the last state. The bar is not
    the best score: the labels come from pages that the champion ranked, which favours whatever ranks like it, so a fall
    from a lucky peak says little. The first score may be worse, because the learning rate still rises.

    Where held-out queries were clearly worse at every look, or the loss was no number, it begins again with half the
    learning rate, at most `HALVINGS` times.

    Raises:
        NothingLearned: so it was at every learning rate that there was time for; the learner is as it was given.
    """
    parameters = dict(learner.parameters())
    given = {name: value.detach().clone() for name, value in parameters.items()}
    start, begun = learner.score(), run.load_checkpoint()
    tried: list[dict[str, Any]] = [] if begun is None else list(begun[1].get("tried", ()))
    while True:
        fitted = Fitted(learning_rate=learning_rate / 2 ** len(tried), tried=tried)
        course = _Course(learner, run, fitted, _Best(start), steps=steps, evaluate_every=evaluate_every)
        if course.goes_well(begun):
            return fitted
        with torch.no_grad():
            for name, value in given.items():
                parameters[name].copy_(value)
        last = fitted.history[-1]["all"] if fitted.history else None
        tried.append({"learning_rate": fitted.learning_rate, "steps": fitted.steps, "why": fitted.stopped, "dev": last})
        begun = None
        if len(tried) > HALVINGS or run.out_of_time():
            raise _nothing(start, tried)


class _Course:
    """One way through the steps at one learning rate."""

    def __init__(
        self, learner: Learner, run: Run, fitted: Fitted, best: _Best, *, steps: int, evaluate_every: int
    ) -> None:
        self._learner, self._run, self._fitted, self._best = learner, run, fitted, best
        self._steps, self._every = steps, evaluate_every
        self._parameters = dict(learner.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=fitted.learning_rate, weight_decay=WEIGHT_DECAY
        )

    def goes_well(self, begun: Checkpoint | None) -> bool:
        """Train, from the checkpoint `begun` if there is one; False where nothing of it is to be kept."""
        run, fitted, best, parameters = self._run, self._fitted, self._best, self._parameters
        if begun is not None:
            fitted.resumed_from = _resume(begun, parameters, self._optimizer, fitted, best)
        started = run.seconds
        for step in range(fitted.resumed_from, self._steps):
            if run.out_of_time():
                if step == 0 and not fitted.tried:
                    raise OverBudget("the time was up before the first step; raise limits.train_minutes")
                fitted.stopped = "time budget"
                break
            loss = self._step(step)
            fitted.steps = step + 1
            if not np.isfinite(loss):
                fitted.stopped = f"the loss was {loss} at step {step + 1}"
                return False
            if self._looks_bad(step + 1, loss):
                break
            run.report(phase="training", step=step + 1, steps=self._steps, loss=loss, dev=_last(fitted.history))
            run.check_memory()
            if run.checkpoint_due():
                facts = {"step": step + 1, "history": fitted.history, "tried": fitted.tried}
                run.save_checkpoint(_state(parameters, self._optimizer, best), facts)
        fitted.seconds = run.seconds - started
        return best.settle(fitted, parameters)

    def _step(self, step: int) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._fitted.learning_rate * schedule(step, self._steps)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._learner.loss(step)
        torch.autograd.backward(loss)
        self._run.processes.add_up(self._parameters.values())
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), CLIP)
        self._optimizer.step()
        return float(loss.detach())

    def _looks_bad(self, step: int, loss: float) -> bool:
        """Score the held-out queries where it is time to; True where the loop must end for what they say."""
        if step % self._every and step != self._steps:
            return False
        score, fitted = self._learner.score(), self._fitted
        fitted.history.append({"step": step, "loss": round(loss, 4), **score.means()})
        early = len(fitted.history) == 1 and step < self._steps
        if not self._best.worse(score, self._parameters, step, early=early):
            return False
        fitted.stopped = f"held-out queries got worse after step {self._best.step}"
        return True


def _nothing(start: DevScore, tried: list[dict[str, Any]]) -> NothingLearned:
    rates = ", ".join(f"{one['learning_rate']:.1e}" for one in tried)
    return NothingLearned(
        f"held-out queries were clearly worse than with the champion at every look, at learning rates {rates}",
        {"tried": tried, "dev": {"champion": start.means()}},
    )


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


def state_of(parameters: Parameters) -> tuple[tuple[int, int], ...]:
    """What tells whether parameters changed since: two equal answers mean the same weights."""
    return tuple((id(value), value._version) for value in parameters.values())


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

    def settle(self, fitted: Fitted, parameters: Parameters) -> bool:
        """Restore the best state where the loop stopped for getting worse; False where no look was good."""
        if fitted.history and self.score is None:
            fitted.stopped = f"held-out queries were worse at every look, the last by step {fitted.steps}"
            return False
        if fitted.tried and not fitted.steps:  # no time was left for this rate
            return False
        if fitted.stopped.startswith("held-out"):
            fitted.steps = self.step
            with torch.no_grad():
                for name, value in self.state.items():
                    parameters[name].copy_(value)
        return True


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


def _resume(
    begun: Checkpoint, parameters: Parameters, optimizer: torch.optim.Optimizer, fitted: Fitted, best: _Best
) -> int:
    """Restore the checkpoint's state; returns the step to go on with."""
    state, facts = begun
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
