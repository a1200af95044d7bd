"""Simulated users for the evaluator's checks: heavy-tailed visits to a split, and pages that two rankers share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.interleaving import credit, team_draft

Column = npt.NDArray[np.float64]
RELEVANT_CLICK, OTHER_CLICK, SHOWN = 0.6, 0.05, 10


class Visitors:
    """One arm's users: few come often, each with a rate of satisfied clicks of their own; visits add up day by day."""

    def __init__(self, rng: np.random.Generator, users: int, rate: float) -> None:
        self._rng = rng
        self._busy = rng.pareto(1.6, users).clip(max=40)
        self._rate = rng.beta(6 * rate, 6 * (1 - rate), users)
        self.pages, self.clicks = np.zeros(users), np.zeros(users)

    def visit(self, share: float = 0.15) -> None:
        """One day: a share of the users come, with pages as busy as they are."""
        active = np.flatnonzero(self._rng.random(len(self._busy)) < share)
        pages = 1 + self._rng.poisson(self._busy[active])
        self.pages[active] += pages
        self.clicks[active] += self._rng.binomial(pages, self._rate[active])

    def seen(self) -> tuple[Column, Column]:
        """Clicks and pages of those who came."""
        came = self.pages > 0
        return self.clicks[came], self.pages[came]


@dataclass(frozen=True)
class Pool:
    """Queries, and pages drawn beforehand: click rates by rank under either ranker, and credits where they interleave.

    `champion` and `challenger` are float64 (queries, ranks), the credits float64 (pages,).
    """

    champion: Column
    challenger: Column
    credit_champion: Column
    credit_challenger: Column

    @property
    def gain(self) -> float:
        """Relative gain in clicks per page, exactly."""
        return float(self.challenger.sum() / self.champion.sum() - 1)


def pool(rng: np.random.Generator, gain: float, queries: int = 1_500, draws: int = 60) -> Pool:
    """Queries of 30 candidates; the challenger orders most of them as the champion does and is `gain` better in clicks.

    Without a gain each page stands twice, with the rankers' places swapped, so that the truth is exactly equal.
    """
    relevant = rng.random((queries, 30)) < 0.1
    shared, own, other = (rng.normal(0, 1, relevant.shape) for _ in range(3))
    champion = np.argsort(-(1.5 * relevant + 0.95 * shared + 0.3 * own), axis=1)
    low, high, wanted = -3.0, 3.0, (1 + gain) * _rates(relevant, champion).sum()
    for _ in range(25):
        middle = (low + high) / 2
        challenger = np.argsort(-((1.5 + middle) * relevant + 0.95 * shared + 0.3 * other), axis=1)
        low, high = (middle, high) if _rates(relevant, challenger).sum() < wanted else (low, middle)
    rates = _rates(relevant, champion), _rates(relevant, challenger)
    ours, theirs = _credits(rng, relevant, champion, challenger, draws)
    if gain:
        return Pool(*rates, ours, theirs)
    both = np.concatenate(rates), np.concatenate(rates[::-1])
    return Pool(*both, np.concatenate([ours, theirs]), np.concatenate([theirs, ours]))


def _rates(relevant: npt.NDArray[np.bool_], order: npt.NDArray[np.int64]) -> Column:
    top = np.take_along_axis(relevant, order[:, :SHOWN], axis=1)
    return np.asarray(np.where(top, RELEVANT_CLICK, OTHER_CLICK) / np.arange(1, SHOWN + 1))


def _credits(
    rng: np.random.Generator,
    relevant: npt.NDArray[np.bool_],
    champion: npt.NDArray[np.int64],
    challenger: npt.NDArray[np.int64],
    draws: int,
) -> tuple[Column, Column]:
    """What both earn on `draws` interleaved pages of every query, by the product's own draft."""
    earned = np.zeros((draws, len(relevant), 2))
    for row in range(len(relevant)):
        tops = [[str(doc) for doc in order[row, :SHOWN]] for order in (champion, challenger)]
        for draw in range(draws):
            page, teams = team_draft(tops[0], tops[1], SHOWN, rng)
            rates = np.where(relevant[row, [int(doc) for doc in page]], RELEVANT_CLICK, OTHER_CLICK)
            clicked = np.flatnonzero(rng.random(SHOWN) < rates / np.arange(1, SHOWN + 1)) + 1
            earned[draw, row] = credit(teams, clicked.tolist())
    return earned[..., 0].ravel(), earned[..., 1].ravel()
