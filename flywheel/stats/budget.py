"""One error budget for a stream of challengers: how much alpha the next one may use, from what the earlier ones spent.

It keeps no state: it is a pure function of the record of decisions, so that it survives any restart. Packages for this
(online-fdr 1.0) keep the state in objects that see p-values. They also fix a sequence whose first level is 0.00125 at
alpha 0.05: a first challenger at z = 3 would miss it when two metrics share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DAY_MS = 86_400_000
# sum over j >= 1 of (j + 2)^-2 = pi^2/6 - 1 - 1/4
_GAMMA_TOTAL = 0.3949340668482264


@dataclass(frozen=True, slots=True)
class Spent:
    """One challenger that was tested: its level, whether it was promoted, and when (epoch milliseconds).

    A promotion that was rolled back is taken to be false and earns nothing.
    """

    alpha: float
    promoted: bool
    at_ms: int = 0
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """LORD++ with levels that begin high; it starts anew every `renew_days`.

    Ramdas, Yang, Wainwright & Jordan (2017), "Online control of the false discovery rate with decaying memory", eq. 9,
    after Javanmard & Montanari (2018), "Online rules for control of false discovery rate":

        alpha_t = w0 g(t) + (alpha - w0) g(t - tau_1) + alpha * sum_{j >= 2} g(t - tau_j)

    with tau_j the tests that promoted, w0 = `initial` * alpha, and g(j) = (j + 2)^-2 / 0.3949, which sums to 1. Before
    the first promotion the levels add up to w0 at most, so that the chance of a false one is at most w0 whatever the
    dependence (the union bound). Among independent challengers none of which is better, V false promotions a period
    have E V <= w0 + (alpha - w0) P(V >= 1) + alpha (E V - P(V >= 1)), hence E V <= w0 / (1 - alpha). Any year touches 5
    periods at most: at the defaults 0.44 false promotions in it, 0.36 on average, however many challengers there are.
    The first level is 0.023, the fourth 0.006. A promotion pays for the tests after it; without one the levels fall.
    """

    alpha: float
    initial: float = 0.8
    renew_days: float = 91.3125

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 0 < self.initial <= 1 or self.renew_days <= 0:
            raise ValueError(f"a budget needs 0 < alpha < 1, 0 < initial <= 1 and renew_days > 0, not {self}")

    def next_alpha(self, history: Sequence[Spent], now_ms: int | None = None) -> float:
        """The level of the next test after `history`, whose order within a period is the order of the tests.

        `now_ms` chooses the period; None: that of the latest entry.
        """
        present_ms = max((past.at_ms for past in history), default=0) if now_ms is None else now_ms
        in_period = [past for past in history if self._period(past.at_ms) == self._period(present_ms)]
        test = len(in_period) + 1
        wealth = self.initial * self.alpha
        level = wealth * _gamma(test)
        promotions = [row for row, past in enumerate(in_period, 1) if past.promoted and not past.rolled_back]
        for order, row in enumerate(promotions):
            level += (self.alpha - wealth if order == 0 else self.alpha) * _gamma(test - row)
        return level

    def _period(self, at_ms: int) -> int:
        return int(at_ms // (self.renew_days * _DAY_MS))


def _gamma(j: int) -> float:
    return float((j + 2) ** -2 / _GAMMA_TOTAL)
