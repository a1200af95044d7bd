"""Evidence of relevance besides the clicks at a rank: the champion's opinion before them, and how they ended.

It knows nothing of ranks' click rates; `flywheel.clicks.examination` does.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from flywheel.clicks.evidence import Evidence, Floats, ScoreFeatures


class Ends:
    """How clicks end (satisfied, in between, bounced), with rates for relevant and irrelevant documents."""

    strength = 10.0

    def __init__(self, evidence: Evidence) -> None:
        between = np.maximum(0, evidence.measured - evidence.satisfied - evidence.bounced)
        self.counts = np.stack([evidence.satisfied, between, evidence.bounced], axis=1)
        self.start_good, self.start_bad = np.array([0.6, 0.25, 0.15]), np.array([0.2, 0.3, 0.5])
        self.good, self.bad = self.start_good, self.start_bad

    def log_odds(self) -> Floats:
        """What each pair's measured clicks say for relevance: (pairs,)."""
        odds: Floats = self.counts @ np.log(self.good / self.bad)
        return odds

    def maximise(self, posterior: Floats) -> None:
        """Fit the rates to the posterior of each pair."""
        good = posterior @ self.counts + self.strength * self.start_good
        bad = (1 - posterior) @ self.counts + self.strength * self.start_bad
        self.good, self.bad = good / good.sum(), bad / bad.sum()


KNOTS = (-0.5, 0.5)  # of the standardised features, where their slopes may change


def design(evidence: Evidence, features: ScoreFeatures) -> Floats:
    """Intercept, and score, gap to the top, log rank and words where known, standardised, as linear splines.

    A constant feature is zero. The splines are linear beyond the knots (Hastie, Tibshirani & Friedman, The elements of
    statistical learning, 2009, section 5.2). Straight lines would fit the many documents of first pages: in simulation
    they found a tenth of the relevant documents that exploration brings from further down.

    The rank is the mean of those at which the pair was shown, or the champion's own where that is worse. It is worse
    where exploration or another ranker lifted the document up; for the others past ranks say more than today's order.

    Words are evidence that the champion does not have: what it ranks low and words rank high is worth a second look.
    """
    rank = evidence.mean_rank()
    if features.rank is not None:
        rank = np.maximum(rank, features.rank)
    words = [] if features.words is None else [features.words]
    columns = np.stack([features.score, features.gap, np.log(rank), *words], axis=1).astype(np.float64)
    spread = columns.std(axis=0)
    scaled = (columns - columns.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    bent = [np.where(spread > 1e-12, np.maximum(0.0, scaled - knot), 0.0) for knot in KNOTS]
    return np.concatenate([np.ones((len(scaled), 1)), scaled, *bent], axis=1)


def logistic(design: Floats, target: Floats, start: Floats, *, ridge: float = 0.1, steps: int = 5) -> Floats:
    """Logistic regression on soft labels by Newton's method, with a ridge on the intercept too.

    A step is halved while it would lower the objective.
    """

    def objective(weights: Floats) -> float:
        score = design @ weights
        return float(target @ score - np.logaddexp(0, score).sum() - 0.5 * ridge * weights @ weights)

    weights, best = start, objective(start)
    for _ in range(steps):
        mean = expit(design @ weights)
        gradient = design.T @ (target - mean) - ridge * weights
        hessian = (design * (mean * (1 - mean))[:, None]).T @ design + ridge * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (value := objective(weights + scale * step)) < best and scale > 1e-4:
            scale /= 2
        if value < best:
            break
        improved = value - best
        weights, best = weights + scale * step, value
        if improved < 1e-6 * abs(best):
            break
    return weights
