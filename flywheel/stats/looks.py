"""Group-sequential looks: a few planned looks, each with its bound.

They find a gain sooner than a confidence sequence. Between them nothing may be tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Column = npt.NDArray[np.float64]
_POINTS = 801
# a step of this size is still wider than the grid's spacing; a look that adds less counts as if it added this much
_LEAST_RISE = 1.005


def bounds(information: Sequence[float], alpha: float, *, time: Sequence[float] | None = None) -> list[float]:
    """The z-value that a gain has to exceed at each look, one-sided.

    Lan & DeMets (1983), "Discrete sequential boundaries for clinical trials", O'Brien-Fleming-like spending
    alpha(t) = 2 - 2 Phi(z_(1 - alpha/2) / sqrt(t)); bounds by the recursive integration of Armitage, McPherson & Rowe
    (1969). A plan that drops or moves looks may be recomputed: spending depends only on the looks taken.

    Args:
        information: 1 / variance of the estimate at each look, rising; any unit.
        time: share of the plan at each look, rising, at most 1. It sets what is spent, while `information` sets the
            correlation of the looks (Lan & DeMets 1989, "Group sequential procedures: calendar versus information
            time"). None: `information` itself, which then is in shares of the plan.

    Raises:
        ValueError: no looks, or figures that do not rise (times: within (0, 1]).
    """
    shares = np.asarray(information, dtype=np.float64)
    spans = shares if time is None else np.asarray(time, dtype=np.float64)
    if len(shares) == 0 or len(spans) != len(shares) or spans[-1] > 1 or not (_rises(shares) and _rises(spans)):
        raise ValueError(f"looks need rising information, at rising times within (0, 1], not {information} at {time}")
    shares = shares / shares[-1]
    z_edge = float(special.ndtri(1 - alpha / 2))
    spent = 2 * special.ndtr(-z_edge / np.sqrt(spans))
    z_values: list[float] = []
    grid: Column = np.zeros(1)
    density: Column = np.ones(1)
    before, spent_before = 0.0, 0.0
    for share, spent_now in zip(shares, spent, strict=True):
        step = math.sqrt(share - before)
        bound = _bound(grid, density, step, float(spent_now - spent_before))
        z_values.append(bound / math.sqrt(share))
        if len(z_values) == len(shares):
            break
        # score process: mass per grid point of paths that stayed below the bound, midpoint rule; none is beyond 8 sigma
        points = np.linspace(-8 * math.sqrt(share), min(bound, 8 * math.sqrt(share)), _POINTS)
        middle = (points[1:] + points[:-1]) / 2
        width = points[1] - points[0]
        kernel = np.exp(-0.5 * ((middle[:, None] - grid[None, :]) / step) ** 2) / (step * math.sqrt(2 * math.pi))
        density = kernel @ density * width
        grid, before, spent_before = middle, float(share), float(spent_now)
    return z_values


def _rises(figures: Column) -> bool:
    return bool(figures[0] > 0 and np.all(np.diff(figures) > 0))


def _bound(grid: Column, density: Column, step: float, crossed: float) -> float:
    """The bound that a mass of `crossed` exceeds, one step of the score process after `density` on `grid`."""

    def short(bound: float) -> float:
        return float(density @ special.ndtr((grid - bound) / step)) - crossed

    if short(12.0) > 0:  # a mass below 1e-32 is to be spent, which makes no difference
        return 12.0
    return float(optimize.brentq(short, -12.0, 12.0))


@dataclass(frozen=True, slots=True)
class Look:
    """One look that was taken: its event day, and the information (1 / variance) on that day."""

    day: float
    information: float


def due(plan: Sequence[float], taken: Sequence[Look], day: float, max_days: float) -> bool:
    """Whether a look of the `plan` (shares of `max_days`) has come since the last one that was `taken`."""
    last = max((look.day for look in taken), default=0.0)
    return any(last < share * max_days <= day for share in plan)


def bound(taken: Sequence[Look], alpha: float, max_days: float) -> float:
    """The z-value that the last of the looks `taken` has to exceed. The last day spends all that is left."""
    information: list[float] = []
    for look in taken:
        information.append(max(look.information, _LEAST_RISE * information[-1] if information else 0.0))
    times = [min(1.0, look.day / max_days) for look in taken]
    return bounds(information, alpha, time=times)[-1]
