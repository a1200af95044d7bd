"""Chooses among challengers that were scored on the same queries: the best, or a cheaper one that is as good.

It is the rule of one standard error (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984,
section 3.4.3), with the standard error of the paired difference. It knows neither models nor the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
CLEARLY = 1.645  # standard errors: a normal variable falls that low one time in twenty


@dataclass(frozen=True, slots=True)
class Contender:
    """A challenger with its scores, float64 (queries,). `cost` orders what it takes to serve it: less is cheaper.

    Training is paid for by the time of the choice, so that it does not count.
    """

    name: str
    cost: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class Choice:
    """`chosen` is None where every challenger is clearly worse than the champion. `states`: near, worse, or chosen."""

    chosen: str | None
    states: dict[str, str]
    why: str


def gain(ours: Scores, theirs: Scores) -> tuple[float, float]:
    """Mean of `theirs` - `ours`, float64 (queries,) each, and its standard error; nan without two queries."""
    if len(ours) < 2:
        return float("nan"), float("nan")
    difference = theirs - ours
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def choose(contenders: Sequence[Contender], champion: Scores) -> Choice:
    """The cheapest within one standard error of the best; of equally cheap ones the better, then the first.

    The champion takes part as what must not be lost against. One that does not beat it still meets the gate, which has
    judged queries; only where all are clearly worse nothing is chosen.
    """
    best = max(contenders, key=lambda one: one.scores.mean())
    near = [one for one in contenders if _near(one, best)]
    cheapest = min(one.cost for one in near)
    chosen = max((one for one in near if one.cost == cheapest), key=lambda one: one.scores.mean())
    states = {one.name: "near" if one in near else "worse" for one in contenders}
    effect, error = gain(champion, best.scores)
    if effect + CLEARLY * error < 0:
        return Choice(None, states, f"the best, {best.name}, is clearly worse than the champion ({effect:+.4f})")
    states[chosen.name] = "chosen"
    why = "it scored best" if chosen is best else f"it is cheaper, and within one standard error of {best.name}"
    return Choice(chosen.name, states, why)


def told(scores: Scores, champion: Scores, unseen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """What a report says of a challenger: mean score, gain over the champion, standard errors, unseen documents."""
    effect, error = gain(champion, scores)
    apart, apart_error = gain(champion[unseen], scores[unseen])
    return {
        "score": _rounded(scores.mean()),
        "gain": _rounded(effect),
        "standard_error": _rounded(error),
        "queries": len(scores),
        "unseen_gain": _rounded(apart),
        "unseen_standard_error": _rounded(apart_error),
        "unseen_queries": int(unseen.sum()),
    }


def _near(one: Contender, best: Contender) -> bool:
    behind, error = gain(one.scores, best.scores)
    return one is best or behind <= error


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
