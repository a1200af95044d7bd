"""Promises of precision: calibrate on judged queries, cross-fitted, and promise no more than a lower bound shows.

Nothing here knows where scores come from. Without judged queries there is no promise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, ndtri

from flywheel.clicks.evidence import sums
from flywheel.clicks.pages import Bools, Floats, Ints, PairCounts

FOLDS = 5
CONFIDENCE = 0.9
POWER = 0.8
LEAST_PAIRS = 30
LEAST_QUERIES = 10
_DRAWS = 1_000
_AROUND = (0.06, 0.05, 0.04, 0.03)
_LEAST_LEVEL = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of a logistic regression on standardised columns, the intercept first."""

    middle: Floats
    spread: Floats
    weights: Floats

    def probabilities(self, columns: Floats) -> Floats:
        """Chance to be relevant of each row of (pairs, columns): (pairs,)."""
        found: Floats = expit(self.weights[0] + (columns - self.middle) / self.spread @ self.weights[1:])
        return found


def columns_of(counts: PairCounts) -> Floats:
    """(pairs, 4): log mean rank and its square, log(1 + clicks), log of the share of the query's pages that show it."""
    rank = np.log(counts.mean_rank)
    shown = np.log(np.maximum(counts.impressions, 1e-9) / np.maximum(counts.pages, 1e-9))
    return np.stack([rank, rank**2, np.log1p(counts.clicks), shown], axis=1)


def calibrate(columns: Floats, relevant: Floats) -> Calibration:
    """Logistic regression with ridge 1 by Newton's method; the intercept is free but for a hundredth of the ridge."""
    spread = columns.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    middle = columns.mean(axis=0)
    design = np.concatenate([np.ones((len(columns), 1)), (columns - middle) / spread], axis=1)
    penalty = np.append(0.01, np.ones(columns.shape[1]))
    found = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        score = design @ at
        told = relevant * log_expit(score) + (1 - relevant) * log_expit(-score)
        return float(0.5 * penalty @ at**2 - told.sum())

    for _ in range(50):
        mean = expit(design @ found)
        gradient = design.T @ (relevant - mean) - penalty * found
        step = np.linalg.solve((design * (mean * (1 - mean))[:, None]).T @ design + np.diag(penalty), gradient)
        size, before = 1.0, loss(found)
        while loss(found + size * step) > before and size > 1e-6:
            size /= 2
        found = found + size * step
        if np.abs(size * step).max() < 1e-7:
            break
    return Calibration(middle, spread, found)


def cross_fitted(columns: Floats, relevant: Floats, query: Ints, rng: np.random.Generator) -> Floats:
    """Chance of each judged pair by a calibration that never saw its query, in 5 folds of queries: (pairs,)."""
    queries, which = np.unique(query, return_inverse=True)
    fold = (rng.permutation(len(queries)) % FOLDS)[which]
    found = np.full(len(query), float(relevant.mean()) if len(query) else 0.0)
    for part in range(FOLDS):
        inside = fold == part
        if inside.any() and not inside.all():
            found[inside] = calibrate(columns[~inside], relevant[~inside]).probabilities(columns[inside])
    return found


@dataclass(frozen=True, slots=True)
class Promise:
    """What may be said of the pairs whose chance is above `threshold`.

    `level` is the promised precision, `asked` what was wanted. Where that cannot be shown, the level is the highest
    that can. `precision` is what the judged pairs show without any margin. `pairs_needed`: so many judged pairs above
    the threshold would show what was asked with a chance of 80 % if the precision is the true one; None where it is
    shown, or where no number would do.
    """

    asked: float
    level: float
    threshold: float
    precision: float
    pairs: int
    queries: int
    pairs_needed: int | None


def promise(chance: Floats, relevant: Floats, query: Ints, asked: float, rng: np.random.Generator) -> Promise | None:
    """The loosest threshold that shows `asked`, else the one that shows most; None where nothing above 0.5 is shown.

    Bounds are one-sided, 90 %, and hold for all thresholds together, so that a threshold may be chosen by its bound:
    precision minus c standard errors, where c is the 0.9 quantile of the largest studentised error over thresholds,
    queries resampled (sup-t band: Montiel Olea & Plagborg-Møller, J. Applied Econometrics 2019, algorithm 2). Where all
    judged pairs are right, errors are those of pairs that add half a wrong one.
    """
    steps = _thresholds(chance, query, asked)
    if not len(steps):
        return None
    queries, which = np.unique(query, return_inverse=True)
    above = (chance[:, None] > steps).astype(np.float64)
    shown, right = _by(which, above, len(queries)), _by(which, above * relevant[:, None], len(queries))
    precision = (right.sum(axis=0) + 0.5) / (shown.sum(axis=0) + 1.0)
    error = _errors(shown, right, precision)
    weights = rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=_DRAWS)
    drawn = (weights @ right + 0.5) / (weights @ shown + 1.0)
    critical = float(np.quantile(((drawn - precision) / error).max(axis=1), CONFIDENCE))
    bound = precision - critical * error
    enough = np.flatnonzero(bound >= asked)
    at = int(enough[-1]) if len(enough) else int(bound.argmax())
    if bound[at] < _LEAST_LEVEL:
        return None
    pairs, true = int(shown[:, at].sum()), float(right[:, at].sum() / shown[:, at].sum())
    level = min(asked, float(np.floor(1000 * bound[at]) / 1000))
    margin = (critical + float(ndtri(POWER))) * error[at]
    needed = None if len(enough) or true <= asked else pairs * (margin / (true - asked)) ** 2
    return Promise(
        asked, level, float(steps[at]), true, pairs, int((shown[:, at] > 0).sum()),
        None if needed is None else int(np.ceil(needed)),
    )  # fmt: skip


def _thresholds(chance: Floats, query: Ints, asked: float) -> Floats:
    """At most four, strictest first: where the mean chance above passes what was asked by about the margin of a bound.

    Few, since each more widens the band. At least `LEAST_PAIRS` judged pairs lie above each.
    """
    ranked = np.sort(chance)[::-1]
    if len(ranked) <= LEAST_PAIRS or len(np.unique(query)) < LEAST_QUERIES:
        return np.empty(0)
    mean = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    counts = [max(LEAST_PAIRS, int((mean >= asked + more).sum())) for more in _AROUND]
    steps = ranked[np.minimum(counts, len(ranked) - 1)]
    above = (chance[:, None] > steps).sum(axis=0)
    # many pairs may share one chance: then the threshold lies just below them
    steps = np.where(above >= LEAST_PAIRS, steps, np.nextafter(steps, -1.0))
    return np.unique(steps)[::-1]


def _by(which: Ints, columns: Floats, count: int) -> Floats:
    return np.stack([sums(which, column, count) for column in columns.T], axis=1)


def _errors(shown: Floats, right: Floats, precision: Floats) -> Floats:
    """Standard error of a ratio whose queries vary (linearised), at least that of independent pairs."""
    total = shown.sum(axis=0)
    clustered = np.sqrt(((right - precision * shown) ** 2).sum(axis=0)) / total
    error: Floats = np.maximum(clustered, np.sqrt(precision * (1 - precision) / total))
    return error


def pairs_needed(asked: float, true: float) -> int:
    """Independent judged pairs above a fixed threshold whose lower bound shows `asked` where `true` is the precision.

    With a chance of 80 %, by the normal approximation: ((z₀.₉ + z₀.₈) √(true (1 - true)) / (true - asked))².
    """
    margin = float(ndtri(CONFIDENCE) + ndtri(POWER)) * np.sqrt(true * (1 - true))
    return int(np.ceil((margin / (true - asked)) ** 2))


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs with a value from `low` on, up to the next bin: how many, and the shares expected and found relevant."""

    low: float
    pairs: int
    expected: float
    right: float


def binned(value: Floats, chance: Floats, relevant: Floats, edges: tuple[float, ...]) -> list[Bin]:
    """The bins of `value` that hold any pair; a reliability curve where the value is the chance itself."""
    which = np.searchsorted(np.array(edges), value, side="right") - 1
    found = []
    for number, low in enumerate(edges):
        inside: Bools = which == number
        if inside.any():
            found.append(Bin(low, int(inside.sum()), float(chance[inside].mean()), float(relevant[inside].mean())))
    return found
