"""Group-sequential looks: a few planned ones, each with its bound, for less width than a confidence sequence costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Column = npt.NDArray[np.float64]


def bounds(information: Sequence[float], alpha: float) -> list[float]:
    """The z-value that a gain has to exceed at each look, one-sided; `information` are shares of the final one, rising.

    Lan & DeMets (1983), "Discrete sequential boundaries for clinical trials", O'Brien-Fleming-like spending
    alpha(t) = 2 - 2 Phi(z_(1 - alpha/2) / sqrt(t)); bounds by the recursive integration of Armitage, McPherson & Rowe
    (1969). A plan that drops or moves looks may be recomputed: spending depends on the information alone.

    Raises:
        ValueError: no looks, or shares that do not rise within (0, 1].
    """
    shares = np.asarray(information, dtype=np.float64)
    if len(shares) == 0 or shares[0] <= 0 or shares[-1] > 1 or np.any(np.diff(shares) <= 0):
        raise ValueError(f"looks need rising shares of the final information within (0, 1], not {list(information)}")
    edge = float(special.ndtri(1 - alpha / 2))
    spent = 2 * special.ndtr(-edge / np.sqrt(shares))
    found: list[float] = []
    grid: Column = np.zeros(1)
    density: Column = np.ones(1)
    before, used = 0.0, 0.0
    for share, upto in zip(shares, spent, strict=True):
        step = math.sqrt(share - before)
        bound = _bound(grid, density, step, float(upto - used))
        found.append(bound / math.sqrt(share))
        # Score process: mass per grid point of paths that stayed below the bound, midpoint rule.
        points = np.linspace(-8 * math.sqrt(share), bound, 2_001)
        middle = (points[1:] + points[:-1]) / 2
        width = points[1] - points[0]
        kernel = np.exp(-0.5 * ((middle[:, None] - grid[None, :]) / step) ** 2) / (step * math.sqrt(2 * math.pi))
        density = kernel @ density * width
        grid, before, used = middle, float(share), float(upto)
    return found


def _bound(grid: Column, density: Column, step: float, crossed: float) -> float:
    """Where a mass of `crossed` ends up above, one step of the score process after `density` on `grid`."""

    def short(bound: float) -> float:
        return float(density @ special.ndtr((grid - bound) / step)) - crossed

    return float(optimize.brentq(short, -12.0, 12.0))
