"""Two arms with different users: a ratio such as satisfied clicks per page, from sums over users that SQL can keep.

It takes users as the unit, never pages; for the same queries under two models see `flywheel.stats.paired`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Estimate, Inconclusive

Column = npt.NDArray[np.float64]
_NO_SPREAD = Inconclusive("the metric does not vary between users: no error can be estimated")


@dataclass(frozen=True, slots=True)
class ArmSums:
    """Sums over one arm's users of pages x, value y (clicks, milliseconds, ...) and what the user did before, z.

    `before` is any figure from before the experiment, for CUPED; all its sums are 0 where there is none. For clicks per
    page take clicks - rate * pages of the time before, with one rate for everybody: 0 is then right for a user who was
    not there yet. Adding two records merges disjoint users. A user who comes back must replace the earlier row.
    """

    users: int = 0
    pages: float = 0.0
    pages_squared: float = 0.0
    value: float = 0.0
    value_squared: float = 0.0
    value_pages: float = 0.0
    before: float = 0.0
    before_squared: float = 0.0
    value_before: float = 0.0
    pages_before: float = 0.0

    @classmethod
    def of(cls, value: Column, pages: Column | None = None, before: Column | None = None) -> ArmSums:
        """From one row per user, float64 (users,) each; without `pages` the metric is a mean over users."""
        x = np.ones_like(value) if pages is None else pages
        z = np.zeros_like(value) if before is None else before
        columns = {"pages": x, "value": value, "before": z}
        sums = {name: float(column.sum()) for name, column in columns.items()}
        squares = {f"{name}_squared": float(column @ column) for name, column in columns.items()}
        crosses = {
            "value_pages": float(value @ x),
            "value_before": float(value @ z),
            "pages_before": float(x @ z),
        }
        return cls(users=len(value), **sums, **squares, **crosses)

    @classmethod
    def from_dict(cls, sums: Mapping[str, float]) -> ArmSums:
        """Back from `as_dict`; unknown names are left out."""
        columns = {f.name: sums[f.name] for f in fields(cls) if f.name in sums and f.name != "users"}
        return cls(users=int(sums["users"]), **columns)

    @classmethod
    def of_people(cls, sums: Mapping[str, float], column: str) -> ArmSums:
        """From one row of sums over all people, where the value's sums begin with the name of its `column`."""
        return cls(
            users=int(sums["users"]),
            pages=sums["pages"],
            pages_squared=sums["pages_squared"],
            value=sums[column],
            value_squared=sums[f"{column}_squared"],
            value_pages=sums[f"{column}_pages"],
        )

    def __add__(self, other: ArmSums) -> ArmSums:
        return ArmSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def as_dict(self) -> dict[str, float]:
        """The sums by name, for the record of a decision."""
        return asdict(self)

    @property
    def ratio(self) -> float:
        """Value per page."""
        return self.value / self.pages if self.pages else math.nan

    @property
    def effective(self) -> float:
        """Kish (1965): how many equally busy users these are worth, (sum x)^2 / sum x^2."""
        return self.pages**2 / self.pages_squared if self.pages_squared else 0.0

    def scaled(self, factor: float) -> ArmSums:
        """The same arm with every value times `factor`: for "worse by more than a tenth"."""
        return replace(
            self,
            value=self.value * factor,
            value_squared=self.value_squared * factor**2,
            value_pages=self.value_pages * factor,
            value_before=self.value_before * factor,
        )

    def without_before(self) -> ArmSums:
        """The same arm without its covariate."""
        return replace(self, before=0.0, before_squared=0.0, value_before=0.0, pages_before=0.0)

    def spread(self, theta: float = 0.0) -> float:
        """Variance over users of the linearised, covariate-adjusted metric (y - R x) / mean(x) - theta z.

        Deng, Knoblich & Lu (2018), "Applying the Delta Method in Metric Analytics", §3.1; with theta, Deng et al.
        (2013), "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data", eq. 4.
        """
        mean_pages = self.pages / self.users
        own = self._covariance(self.value_squared, self.value, self.value)
        own -= 2 * self.ratio * self._covariance(self.value_pages, self.value, self.pages)
        own += self.ratio**2 * self._covariance(self.pages_squared, self.pages, self.pages)
        own /= mean_pages**2
        before = self._covariance(self.before_squared, self.before, self.before)
        return max(0.0, own + theta**2 * before - 2 * theta * self.pull())

    def pull(self) -> float:
        """Covariance over users of the linearised metric with `before`."""
        with_value = self._covariance(self.value_before, self.value, self.before)
        with_pages = self._covariance(self.pages_before, self.pages, self.before)
        return (with_value - self.ratio * with_pages) / (self.pages / self.users)

    def before_variance(self) -> float:
        """Variance over users of `before`."""
        return self._covariance(self.before_squared, self.before, self.before)

    def _covariance(self, product: float, first: float, second: float) -> float:
        return (product - first * second / self.users) / (self.users - 1)


def compare(
    champion: ArmSums, challenger: ArmSums, *, relative: bool = True, cautious: bool = False
) -> Estimate | Inconclusive:
    """Challenger's ratio over the champion's, minus 1 (`relative`), or the difference; CUPED where `before` varies.

    Variance by the delta method over users, Welch-Satterthwaite degrees of freedom. With R the unadjusted ratios,
    Var(R_b / R_a) = V_b / R_a^2 + V_a R_b^2 / R_a^4: Deng, Knoblich & Lu (2018), §3.2. theta is the regression of the
    linearised metric on `before` in both arms together: Deng et al. (2013), eq. 5.

    `cautious` takes the error under "no difference" where that is larger: the spread of all users around their common
    ratio, as in the score test (Rao 1948). An arm's own spread is small just when its ratio came out small. With rare
    clicks, a small arm or one user with a tenth of the pages, the plain error therefore finds differences several times
    as often as asked (`benchmarks/evaluator.py variants` measures that).
    """
    refused = _refusal(champion, challenger)
    if refused or (relative and champion.value == 0):
        return refused or Inconclusive("the champion's metric is 0: no relative effect")
    both = champion + challenger
    theta = _theta(both)
    moved = challenger.before / challenger.users - champion.before / champion.users
    difference = challenger.ratio - champion.ratio - theta * moved
    variances = [arm.spread(theta) / arm.users for arm in (champion, challenger)]
    scale = abs(champion.ratio) if relative else 1.0
    weights = ((challenger.ratio / champion.ratio**2) ** 2, 1 / scale**2) if relative else (1.0, 1.0)
    variance = variances[0] * weights[0] + variances[1] * weights[1]
    if cautious:
        variance = max(variance, both.spread(theta) * (1 / champion.users + 1 / challenger.users) / scale**2)
    if variance <= 0:
        return _NO_SPREAD
    # Welch-Satterthwaite on the plain variances, for relative effects too, as in gbstats
    parts = [v**2 / (arm.users - 1) for v, arm in zip(variances, (champion, challenger), strict=True)]
    degrees = sum(variances) ** 2 / sum(parts) if sum(variances) > 0 else both.users - 2
    return Estimate(difference / scale, math.sqrt(variance), degrees)


def log_ratio(champion: ArmSums, challenger: ArmSums) -> Estimate | Inconclusive:
    """Logarithm of the challenger's ratio over the champion's, by the cautious error; CUPED where `before` varies.

    Var(ln R) = V / R^2 by the delta method (Katz, Baptista, Azen & Pike 1978, "Obtaining confidence intervals for the
    risk ratio in cohort studies", eq. 2), and at least what it is under "no difference", as in `compare`. On this scale
    a gain of one arm is the same loss of the other, and a large effect does not swell its own error as it does in
    R_b / R_a - 1. An arm whose metric is 0 counts half a click; its error is then such that the logarithm has the same
    z-value as the difference in the score test.
    """
    refused = _refusal(champion, challenger)
    if refused or champion.value == challenger.value == 0:
        return refused or Inconclusive("the metric is 0 in both arms")
    if min(champion.value, challenger.value) < 0:
        return Inconclusive("an arm's total is below 0: a gain in percent of that means nothing")
    both = champion + challenger
    theta, usual = _theta(both), both.before / both.users
    logs, variance = [], 0.0
    for arm in (champion, challenger):
        counted = arm if arm.value > 0 else arm + ArmSums(value=0.5, value_squared=0.5)
        ratio = counted.ratio - theta * (counted.before / counted.users - usual)
        if ratio <= 0:
            return Inconclusive("what users did before explains all of the metric: no ratio is left to compare")
        logs.append(math.log(ratio))
        variance += counted.spread(theta) / counted.users / ratio**2
    common = both.spread(theta) * (1 / champion.users + 1 / challenger.users)
    if common <= 0:
        return _NO_SPREAD
    error = math.sqrt(max(variance, common / both.ratio**2))
    if min(champion.value, challenger.value) <= 0:
        error = abs(logs[1] - logs[0]) * math.sqrt(common) / abs(challenger.ratio - champion.ratio)
    return Estimate(logs[1] - logs[0], error, both.users - 2)


def _refusal(champion: ArmSums, challenger: ArmSums) -> Inconclusive | None:
    if min(champion.users, challenger.users) < 2:
        return Inconclusive(f"{champion.users} and {challenger.users} users; each arm needs two to have a spread")
    if min(champion.pages, challenger.pages) <= 0:
        return Inconclusive("an arm has no pages")
    return None


def _theta(both: ArmSums) -> float:
    variance = both.before_variance()
    # a variance that is only the rounding of its sum of squares is none
    return both.pull() / variance if variance > 1e-12 * both.before_squared else 0.0
