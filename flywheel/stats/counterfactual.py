"""Estimates what a ranking that nobody saw would have earned, from the logs of another one.

It refuses where the logs do not reach: each estimate comes with its effective sample size and coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.paired import PairedSums

Column = npt.NDArray[np.float64]
MIN_GROUPS = 20


@dataclass(frozen=True, slots=True)
class Contrast:
    """Challenger and champion on the same log, as totals over groups of users.

    `sums` holds each group's pages and both totals. Where an estimator is no plain mean, a group's total is its share
    of the value plus its influence on it: the sums then give both value and error. `effective` and `coverage` are the
    challenger's: how many of its own pages the log is worth, and the share of what it would show that the log has.
    """

    sums: PairedSums
    effective: float
    coverage: float

    def estimate(
        self, *, min_effective: float, min_coverage: float, min_groups: int = MIN_GROUPS
    ) -> Estimate | Inconclusive:
        """Challenger minus champion by page, or why there is no answer."""
        refused = _refusal(self.effective, self.coverage, min_effective, min_coverage)
        if refused:
            return refused
        if self.sums.groups < min_groups:
            return Inconclusive(f"{self.sums.groups} groups of users; {min_groups} are the least for an interval")
        return self.sums.compare()


@dataclass(frozen=True, slots=True)
class RankWeights:
    """One policy's sums over logged slots by (group of users, rank), float64 (groups, ranks) each.

    With w = 1 / propensity where the policy shows the logged document at that rank and else 0, r the satisfied click
    and q the click model's prediction: sums of w, w^2, w r, and q(policy) + w (r - q(shown)).
    """

    weight: Column
    weight_squared: Column
    reward: Column
    robust: Column


def self_normalised(slots: Column, champion: RankWeights, challenger: RankWeights) -> Contrast | Inconclusive:
    """Clicks per page of both, each rank normalised by its own weights. `slots` (groups, ranks) counts logged slots.

    Swaminathan & Joachims (2015), eq. 6, for each rank, with the item-position weights of Li et al. (2018), §4.2;
    summed over ranks by how many pages have them. A group's influence is the linearised ratio's, (sum w r - V sum w) /
    total w. Ranks are kept apart: an unsupported low rank must not be filled with the click rate of a high one.
    """
    if not slots.size or slots[:, 0].sum() <= 0:
        return Inconclusive("no page was logged with propensities")
    totals = []
    for arm in (champion, challenger):
        empty = np.flatnonzero((arm.weight.sum(axis=0) <= 0) & (slots.sum(axis=0) > 0))
        if len(empty):
            return Inconclusive(f"the log never shows at rank {empty[0] + 1} what would be shown there")
        totals.append(_by_rank(slots, arm))
    sums = PairedSums.of_groups(slots[:, 0], totals[0], totals[1])
    return Contrast(sums, *_support(slots, challenger))


def robust(slots: Column, champion: RankWeights, challenger: RankWeights) -> Contrast | Inconclusive:
    """Doubly robust clicks per page of both: Dudík, Langford & Li (2011), eq. 1, for each slot, summed over a page."""
    if not slots.size or slots[:, 0].sum() <= 0:
        return Inconclusive("no page was logged with propensities")
    sums = PairedSums.of_groups(slots[:, 0], champion.robust.sum(axis=1), challenger.robust.sum(axis=1))
    return Contrast(sums, *_support(slots, challenger))


def _by_rank(slots: Column, arm: RankWeights) -> Column:
    """Each group's pages times the value, plus its influence on the value."""
    pages, logged = slots[:, 0], slots.sum(axis=0) > 0
    share = slots.sum(axis=0)[logged] / pages.sum()
    weight, reward = arm.weight[:, logged], arm.reward[:, logged]
    total = weight.sum(axis=0)
    rate = reward.sum(axis=0) / total
    influence = ((reward - rate * weight) / total) @ share
    return np.asarray(pages * float(rate @ share) + pages.sum() * influence)


def _support(slots: Column, arm: RankWeights) -> tuple[float, float]:
    """Kish's effective size in pages, and the mean weight by rank, at most 1 each."""
    by_rank = slots.sum(axis=0)
    weight, squared = arm.weight.sum(axis=0), float(arm.weight_squared.sum())
    effective = float(weight.sum()) ** 2 / squared * by_rank[0] / by_rank.sum() if squared else 0.0
    return effective, float(np.minimum(weight, by_rank).sum() / by_rank.sum())


def _refusal(effective: float, coverage: float, min_effective: float, min_coverage: float) -> Inconclusive | None:
    if not effective >= min_effective:  # also where it is no number
        return Inconclusive(f"effective sample size {effective:.1f} is below {min_effective:g}: the log hardly has it")
    if not coverage >= min_coverage:
        return Inconclusive(f"the log covers {coverage:.0%} of what would be shown; {min_coverage:.0%} are the least")
    return None
