"""Estimates what a ranking that nobody saw would have earned, from the logs of another one.

It refuses where the logs do not reach: each estimate comes with its effective sample size and coverage.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy import special

from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.paired import PairedSums

Column = npt.NDArray[np.float64]
MIN_EFFECTIVE = 100.0
MIN_COVERAGE = 0.8
MIN_GROUPS = 20


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """A value per record with its 95 % interval, its effective sample size, and the share that the log covers."""

    value: float
    low: float
    high: float
    effective: float
    coverage: float


@dataclass(frozen=True, slots=True)
class WeightedSums:
    """Sums over groups (users) of importance weights w and weighted rewards w r; adding merges disjoint groups.

    `weight_squared` and `reward_squared` sum w^2 over records; the `group_` ones square and cross a group's totals.
    """

    groups: int = 0
    records: float = 0.0
    weight: float = 0.0
    weight_squared: float = 0.0
    reward: float = 0.0
    group_weight_squared: float = 0.0
    group_reward_squared: float = 0.0
    group_cross: float = 0.0

    @classmethod
    def of(cls, reward: Column, logged: Column, target: Column, groups: npt.ArrayLike | None = None) -> WeightedSums:
        """From one row per record: its reward (0 or above), and the propensities of what was shown under both policies.

        Raises:
            ValueError: a logged propensity outside (0, 1], one aimed at outside [0, 1], or a reward that is below 0
                or no number.
        """
        sound = (logged > 0) & (logged <= 1) & (target >= 0) & (target <= 1) & (reward >= 0) & np.isfinite(reward)
        if not np.all(sound):
            raise ValueError(
                "propensities must lie in (0, 1] as logged and in [0, 1] as aimed at, rewards at 0 or above"
            )
        with np.errstate(over="ignore"):  # a propensity near 0 overflows; `snips` refuses then
            weights = target / logged
        names = np.arange(len(reward)) if groups is None else np.asarray(groups)
        _, group = np.unique(names, return_inverse=True)
        by_group = np.bincount(group, weights=weights), np.bincount(group, weights=weights * reward)
        return cls(
            groups=len(by_group[0]),
            records=float(len(reward)),
            weight=float(weights.sum()),
            weight_squared=float(weights @ weights),
            reward=float(weights @ reward),
            group_weight_squared=float(by_group[0] @ by_group[0]),
            group_reward_squared=float(by_group[1] @ by_group[1]),
            group_cross=float(by_group[0] @ by_group[1]),
        )

    def __add__(self, other: WeightedSums) -> WeightedSums:
        return WeightedSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def as_dict(self) -> dict[str, float]:
        """The sums by name, for the record of a decision."""
        return asdict(self)

    @property
    def effective(self) -> float:
        """Kish (1965): (sum w)^2 / sum w^2, how many records of the target policy these are worth."""
        return self.weight**2 / self.weight_squared if self.weight_squared else 0.0

    @property
    def coverage(self) -> float:
        """Mean weight, at most 1; it falls short by what the target shows and the log never does."""
        return min(1.0, self.weight / self.records) if self.records else 0.0

    def snips(
        self, *, level: float = 0.95, min_effective: float = MIN_EFFECTIVE, min_coverage: float = MIN_COVERAGE
    ) -> OffPolicy | Inconclusive:
        """Self-normalised inverse propensity score of the target's mean reward, or why there is none.

        Swaminathan & Joachims (2015), "The Self-Normalized Estimator for Counterfactual Learning", eq. 6: sum w r /
        sum w, variance by the delta method over groups. Clicks are rare and their weighted sum is skewed, so the
        interval is the gamma one for weighted Poisson sums: Fay & Feuer (1997), eq. 4, upper end after Tiwari, Clegg &
        Zou (2006), "Efficient interval estimation for age-adjusted cancer rates", eq. 5.
        """
        refused = _refusal(self.effective, self.coverage, min_effective, min_coverage)
        if refused or self.groups < 2:
            return refused or Inconclusive(f"{self.groups} users; two are the least that have a spread")
        value = self.reward / self.weight
        spread = self.group_reward_squared - 2 * value * self.group_cross + value**2 * self.group_weight_squared
        variance = max(spread, 0.0) * self.groups / (self.groups - 1) / self.weight**2
        one, one_squared = 1 / self.records, self.weight_squared / self.records / self.weight**2
        low = _gamma_end(value, variance, (1 - level) / 2)
        high = _gamma_end(value + one, variance + one_squared, (1 + level) / 2)
        return OffPolicy(value, low, high, self.effective, self.coverage)


def doubly_robust(
    reward: Column,
    weights: Column,
    predicted: Column,
    predicted_target: Column,
    groups: npt.ArrayLike | None = None,
) -> Estimate | Inconclusive:
    """Mean of q(target) + w (r - q(shown)): unbiased where the weights or the predictions are right.

    Dudík, Langford & Li (2011), "Doubly Robust Policy Evaluation and Learning", eq. 1. All columns float64 (records,);
    `predicted` is the click model's for what was shown, `predicted_target` its mean over what the target would show.
    Refuses below the same thresholds as `WeightedSums.snips`; error by groups as in the delta method.

    Raises:
        ValueError: a reward or a prediction that is no number.
    """
    total = float(weights.sum())
    effective = total**2 / float(weights @ weights) if total else 0.0
    refused = _refusal(effective, min(1.0, float(weights.mean())) if len(weights) else 0.0, MIN_EFFECTIVE, MIN_COVERAGE)
    if refused:
        return refused
    rounds = predicted_target + weights * (reward - predicted)
    if not np.all(np.isfinite(rounds)):
        raise ValueError("rewards and predictions must be numbers")
    names = np.arange(len(rounds)) if groups is None else np.asarray(groups)
    _, group = np.unique(names, return_inverse=True)
    n = np.bincount(group).astype(np.float64)
    if len(n) < 2:
        return Inconclusive(f"{len(n)} users; two are the least that have a spread")
    value = float(rounds.mean())
    residual = np.bincount(group, weights=rounds) - value * n
    error = math.sqrt(float(residual @ residual) * len(n) / (len(n) - 1)) / len(rounds)
    return Estimate(value, error, len(n) - 1)


@dataclass(frozen=True, slots=True)
class Slots:
    """The places on the pages that a target ranking would show, float64 (slots,) each.

    `page` numbers the page and `user` who asked, int64. `clicks` and `impressions` are what the log holds of the same
    (query, document, rank). `predicted` is the click model's rate for it. `cell` numbers the (query, document, rank):
    slots of one cell share one rate and its error. None: every slot is a cell of its own.
    """

    page: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    clicks: Column
    impressions: Column
    predicted: Column
    cell: npt.NDArray[np.int64] | None = None


def item_position(
    slots: Slots, *, strength: float = 20.0, min_coverage: float = MIN_COVERAGE
) -> OffPolicy | Inconclusive:
    """Expected (satisfied) clicks per page of a ranking, from the rates of each document at each rank.

    Li, Abbasi-Yadkori, Kveton et al. (2018), "Offline Evaluation of Ranking Policies with Click Models", the
    item-position estimator (§4.2). The click model's rate counts as `strength` impressions, so that it rules where few
    impressions were logged. Coverage is the share of predicted clicks in slots that were logged at least once; the
    effective size is harmonic in their impressions. The interval adds the rates' own error to the spread over users.

    Raises:
        ValueError: counts or predictions that are no number or below 0, or more clicks than impressions.
    """
    counts = (slots.clicks, slots.impressions - slots.clicks, slots.predicted)
    if not all(np.all((count >= 0) & np.isfinite(count)) for count in counts):
        raise ValueError("clicks lie between 0 and impressions, and predicted rates at 0 or above")
    total = float(slots.predicted.sum())
    covered = slots.impressions > 0
    coverage = float(slots.predicted[covered].sum()) / total if total else 0.0
    weight = slots.predicted[covered]
    rate_noise = float((weight**2 / slots.impressions[covered]).sum()) if covered.any() else 0.0
    effective = float(weight.sum()) ** 2 / rate_noise if rate_noise else 0.0
    refused = _refusal(effective, coverage, MIN_EFFECTIVE, min_coverage)
    if refused:
        return refused
    size = slots.impressions + strength
    rate = (slots.clicks + strength * slots.predicted) / size
    _, page_user = np.unique(slots.user, return_inverse=True)
    pages = len(np.unique(slots.page))
    by_user = np.bincount(page_user, weights=rate)
    first = np.unique(slots.page, return_index=True)[1]
    asked = np.bincount(page_user[first], minlength=len(by_user)).astype(np.float64)
    if len(by_user) < 2:
        return Inconclusive(f"{len(by_user)} users; two are the least that have a spread")
    value = float(rate.sum()) / pages
    residual = by_user - value * asked
    variance = float(residual @ residual) * len(by_user) / (len(by_user) - 1) / pages**2
    variance += _cell_noise(slots.cell, rate * (1 - rate) / size) / pages**2
    estimate = Estimate(value, math.sqrt(variance))
    return OffPolicy(value, *estimate.interval(), effective, coverage)


def _cell_noise(cell: npt.NDArray[np.int64] | None, noise: Column) -> float:
    """Variance of the summed rates: a cell that stands on m pages brings the same error m times."""
    if cell is None:
        return float(noise.sum())
    _, first, repeats = np.unique(cell, return_index=True, return_counts=True)
    return float((repeats**2 * noise[first]).sum())


def _refusal(effective: float, coverage: float, min_effective: float, min_coverage: float) -> Inconclusive | None:
    if not effective >= min_effective:  # written so that nan is refused too
        return Inconclusive(f"effective sample size {effective:.1f} is below {min_effective:g}: the log hardly has it")
    if not coverage >= min_coverage:
        return Inconclusive(f"the log covers {coverage:.0%} of what would be shown; {min_coverage:.0%} are the least")
    return None


def _gamma_end(value: float, variance: float, probability: float) -> float:
    """Quantile of the gamma distribution of that mean and variance."""
    if value <= 0 or variance <= 0:
        return max(value, 0.0)
    shape = value**2 / variance
    return float(special.gammaincinv(shape, probability)) * variance / value


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
        self, *, min_effective: float = MIN_EFFECTIVE, min_coverage: float = MIN_COVERAGE, min_groups: int = MIN_GROUPS
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
