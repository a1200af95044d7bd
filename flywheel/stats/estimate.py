"""What a test says: an effect with its uncertainty, or why there is no answer. The two are distinct types."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """No answer, and why. It has no effect and no p-value: it does not mean "no difference"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect, its standard error, and the degrees of freedom of its t distribution (infinite: normal).

    An error of 0 means that all `degrees` + 1 units moved alike: the p-value is then that of the sign-flip test,
    2^-(degrees + 1), and not 0.
    """

    effect: float
    standard_error: float
    degrees: float = math.inf

    def p_gain(self, *, over: float = 0.0) -> float:
        """One-sided p-value of "the effect is at most `over`"."""
        if self.standard_error == 0:
            return self._alike() if self.effect > over else 1.0
        return self._cdf(over - self.effect)

    def p_loss(self, *, under: float = 0.0) -> float:
        """One-sided p-value of "the effect is at least `under`"."""
        if self.standard_error == 0:
            return self._alike() if self.effect < under else 1.0
        return self._cdf(self.effect - under)

    def p_value(self) -> float:
        """Two-sided p-value of "there is no effect"."""
        return 1.0 if self.effect == 0 else min(1.0, 2 * min(self.p_gain(), self.p_loss()))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The two-sided interval that covers the truth in a share `level` of samples."""
        reach = self.quantile(0.5 + level / 2) * self.standard_error
        return self.effect - reach, self.effect + reach

    def quantile(self, probability: float) -> float:
        """The quantile of the reference distribution, in standard errors."""
        if math.isinf(self.degrees):
            return float(special.ndtri(probability))
        return float(special.stdtrit(self.degrees, probability))

    def _alike(self) -> float:
        return 0.0 if math.isinf(self.degrees) else 0.5 ** (self.degrees + 1)

    def _cdf(self, distance: float) -> float:
        statistic = distance / self.standard_error
        if math.isinf(self.degrees):
            return float(special.ndtr(statistic))
        return float(special.stdtr(self.degrees, statistic))


def holm(p_values: dict[str, float], alpha: float) -> set[str]:
    """Names whose hypotheses are rejected at family-wise error `alpha`, whatever their dependence.

    Holm (1979), "A simple sequentially rejective multiple test procedure": the i-th smallest of m is compared with
    alpha / (m - i + 1), and the first that is above it ends the procedure.
    """
    rejected: set[str] = set()
    for position, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p_value > alpha / (len(p_values) - position):
            break
        rejected.add(name)
    return rejected
