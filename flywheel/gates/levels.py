"""Tests one estimate for a gain and a loss, each at its level, with the interval that says exactly the same.

The interval's lower end is above 0 where the gain is found, and its upper end below 0 where the loss is: words that
quote it cannot contradict the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flywheel.stats.estimate import Estimate
from flywheel.stats.looks import Look, bound
from flywheel.stats.power import users_to_find
from flywheel.stats.sequential import e_gain, e_loss, lower_bound


@dataclass(frozen=True, slots=True)
class Levels:
    """The chance that a harmless challenger is promoted, and that it is ended for a loss, each one-sided.

    `once`: the test is over and this is its only look. Then a fixed-size test decides, both ways.
    """

    gain: float
    loss: float
    once: bool = False

    @property
    def confidence(self) -> float:
        """Of the interval that both tests make, in percent."""
        return 100 * (1 - self.gain - self.loss)


@dataclass(frozen=True, slots=True)
class Tested:
    """What the tests say. `low` and `high` are on the estimate's scale; `facts` are the figures behind it."""

    better: bool
    worse: bool
    low: float
    high: float
    kind: str
    gain_words: str
    loss_words: str
    facts: Mapping[str, float] = field(default_factory=dict)

    def bounds(self, *, mirrored: bool) -> tuple[float, float]:
        """Low and high, of the opposite estimate where `mirrored`: what was tested is then that less is a gain."""
        return (-self.high, -self.low) if mirrored else (self.low, self.high)

    def waiting(self, day: float | None) -> Tested:
        """The same before the next planned look, when no gain counts."""
        words = f"looks are planned, the next one is {'over' if day is None else f'on day {day:g}'}"
        return replace(self, better=False, gain_words=words)


def at_the_end(found: Estimate, levels: Levels) -> Tested:
    """The only look at a test that is over: Student's t, one-sided either way, and the interval of both."""
    gain, loss = found.p_gain(), found.p_loss()
    low = found.effect - found.quantile(1 - levels.gain) * found.standard_error
    high = found.effect + found.quantile(1 - levels.loss) * found.standard_error
    return Tested(
        better=gain <= levels.gain,
        worse=loss <= levels.loss,
        low=low,
        high=high,
        kind="interval",
        gain_words=f"p {beside(gain, levels.gain)} needed",
        loss_words=f"p {beside(loss, levels.loss)} needed",
        facts={"p_gain": gain, "p_loss": loss},
    )


def at_any_time(found: Estimate, levels: Levels, expected: float) -> Tested:
    """One of any number of looks: e-values, and the confidence sequence that inverts them."""
    gain, loss = e_gain(found, expected=expected), e_loss(found, expected=expected)
    mirrored = Estimate(-found.effect, found.standard_error, found.degrees)
    return Tested(
        better=gain >= 1 / levels.gain,
        worse=loss >= 1 / levels.loss,
        low=lower_bound(found, expected=expected, level=levels.gain),
        high=-lower_bound(mirrored, expected=expected, level=levels.loss),
        kind="sequence",
        gain_words=f"e-value {beside(gain, 1 / levels.gain)} needed",
        loss_words=f"e-value {beside(loss, 1 / levels.loss)} needed",
        facts={"e_gain": gain, "e_loss": loss},
    )


def at_a_look(found: Estimate, levels: Levels, expected: float, taken: Sequence[Look], max_days: float) -> Tested:
    """The last of the planned looks `taken`: a gain by its bound, a loss at any time.

    The lower end is that of the repeated confidence interval (Jennison & Turnbull 1989, "Interim analyses: the repeated
    confidence interval approach").
    """
    error = max(found.standard_error, 1e-12)
    z, needed = found.effect / error, bound(taken, levels.gain, max_days)
    watched = at_any_time(found, levels, expected)
    return replace(
        watched,
        better=z > needed,
        low=found.effect - needed * error if math.isfinite(needed) else -math.inf,
        gain_words=f"z and bound at look {len(taken)}: {beside(z, needed)} needed",
        facts={"e_loss": watched.facts["e_loss"], "z": z, "bound": needed},
    )


def planned(found: Estimate, sought: float, levels: Levels, expected: float, users: int) -> dict[str, float]:
    """How many users would show a gain of `sought`, the smallest that matters: never of the one that was seen.

    A split's estimate is a logarithm, to which a small `sought` is nearly equal.
    """
    if found.standard_error == 0:
        return {"sought": sought}
    needed = users_to_find(
        math.log1p(sought),
        standard_error=found.standard_error,
        users=users,
        alpha=levels.gain,
        expected=None if levels.once else expected,
    )
    return {"sought": sought, "users_needed": needed}


def beside(figure: float, needed: float) -> str:
    """A figure and what it is held against, with digits enough that they differ where the two do."""
    for digits in range(2, 16):
        shown = f"{figure:.{digits}g}", f"{needed:.{digits}g}"
        if shown[0] != shown[1]:
            return ", ".join(shown)
    return ", ".join(shown)
