"""What is thought of a document before its clicks: a regression of relevance on the champion's opinion and on words."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from flywheel.clicks.evidence import Evidence, Floats, ScoreFeatures

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
