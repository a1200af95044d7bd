"""For the offline gate: turns two models' scores into estimates by part of the queries, and says which losses count.

It promotes nothing; `flywheel.gates.offline` decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.paired import PairedSums, SignFlips, bootstrap_interval, flip_signs

Scores = npt.NDArray[np.float64]
Pair = tuple[Scores, Scores]
ALL, SEEN, UNSEEN = "all", "seen", "unseen"
FEEDBACK = "feedback"
SHOWN = "shown_ndcg@10"


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Both models on queries that training never saw, ranking only what people were shown: float64 (queries,) each, nan
    where nothing shown was relevant. `seen` and `groups` as in `OfflineEvidence`; `note` says why there is nothing.

    Guard only: a loss counts, a gain proves nothing. What was shown was in the champion's first ten, so nothing here
    speaks for what it missed. There the champion's own scores are all high while a challenger's range, which flatters
    the challenger: one that is just as good comes out over 0.04 nDCG ahead in the tests of `flywheel.learning.heldout`.
    The trainer stops and merges by these queries' pairs too.
    """

    champion: Scores
    challenger: Scores
    seen: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric on one part of the queries. `flips`: few queries, so that the exact test says whether it is a gain."""

    sums: PairedSums
    estimate: Estimate | Inconclusive
    bootstrap: tuple[float, float] | Inconclusive
    flips: SignFlips | None = None

    @property
    def p_gain(self) -> float:
        """One-sided p-value of a gain, by the exact test where that decides; 1 where there is no estimate."""
        if self.flips is not None:
            return self.flips.p_gain
        return self.estimate.p_gain() if isinstance(self.estimate, Estimate) else 1.0

    @property
    def spread(self) -> float | None:
        """Standard deviation of one group's difference, as the error of the mean has it; None where nothing varied."""
        if not isinstance(self.estimate, Estimate) or self.estimate.standard_error <= 0:
            return None
        return self.estimate.standard_error * float(np.sqrt(self.sums.groups))

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values: sums, and effect with its intervals or the reason why there is none."""
        facts: dict[str, Any] = {"n": self.sums.groups, "sums": self.sums.as_dict()}
        if isinstance(self.estimate, Inconclusive) or isinstance(self.bootstrap, Inconclusive):
            return facts | {"inconclusive": str(getattr(self.estimate, "reason", ""))}
        low, high = self.estimate.interval()
        return facts | {
            "effect": self.estimate.effect,
            "standard_error": self.estimate.standard_error,
            "low": low,
            "high": high,
            "bootstrap_low": self.bootstrap[0],
            "bootstrap_high": self.bootstrap[1],
            "p_gain": self.p_gain,
            "test": "t" if self.flips is None else "sign-flip",
        }


def lost(estimate: Estimate, margin: float, level: float) -> bool:
    """Whether a loss is beyond the margin and stands out of the noise.

    The effect is below -`margin`, and a challenger that changes nothing would show as much with a chance of at most
    `level`. The usual non-inferiority test, "the whole interval above -margin", needs a standard error well under the
    margin. At 60 queries and 0.02 it would block nearly everything; the bare estimate would block a third of what is
    harmless. This rule blocks a harmless challenger in at most `level` of cases at any size. It blocks a loss of twice
    the standard error in 84 % (level 0.16). As queries grow it becomes "the loss is beyond the margin" itself.
    """
    return estimate.effect < -margin and estimate.p_loss() < level


def measure(
    metrics: Mapping[str, Pair],
    groups: npt.NDArray[np.int64] | None,
    rng: np.random.Generator,
    exact_from: tuple[int, int] | None = None,
) -> dict[str, Measured]:
    """Each metric's (champion, challenger) paired by query, float64 (queries,); `groups` (queries,) say who asked.

    From as many groups as the first of `exact_from` and below the second, signs are flipped too.
    """
    measured = {}
    for name, (before, after) in metrics.items():
        sums = PairedSums.of(before, after, groups)
        bootstrap = bootstrap_interval(before, after, rng, groups=groups)
        few = exact_from is not None and exact_from[0] <= sums.groups < exact_from[1]
        flips = flip_signs(before, after, groups, np.random.default_rng(0)) if few else None
        measured[name] = Measured(sums, sums.compare(), bootstrap, flips)
    return measured


@dataclass(frozen=True, slots=True)
class Guarded:
    """What is lost beyond its margin, what else there is to say, and whether all queries together were enough."""

    worse: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    enough: bool = False


def guard_feedback(
    parts: Mapping[str, Mapping[str, Measured]], least: Mapping[str, int], *, margin: float, level: float
) -> Guarded:
    """Losses on held-out feedback, `level` shared among the parts that have the `least` groups of queries."""
    worse, said = [], []
    by_part = {part: parts[part][SHOWN] for part in least if part in parts}
    estimates = {
        part: measured.estimate
        for part, measured in by_part.items()
        if measured.sums.groups >= least[part] and isinstance(measured.estimate, Estimate)
    }
    share = level / max(1, len(estimates))
    for part, measured in by_part.items():
        if part not in estimates:
            if part != FEEDBACK and FEEDBACK not in estimates:
                continue  # the line for all of them has said it already
            said.append(f"{where(part)}: {measured.sums.groups} queries, {least[part]} are the least for a verdict")
            continue
        estimate = estimates[part]
        line = f"{where(part)}, among what was shown: nDCG@10 {figures(estimate, measured.sums)}"
        if lost(estimate, margin, share):
            p_value = f"p {estimate.p_loss():.2g} below {share:.2g}"
            worse.append(f"{line}: a loss beyond the margin of {margin:g} that stands out of the noise ({p_value})")
        else:
            said.append(f"{line}: nothing lost beyond the margin of {margin:g} or the noise")
    return Guarded(tuple(worse), tuple(said), FEEDBACK in estimates)


def where(part: str) -> str:
    """A part of the queries in words."""
    if part.startswith(FEEDBACK):
        return f"held-out {part}" if part == FEEDBACK else f"held-out {part} documents"
    return part if part.startswith("anchor") else f"{part} documents" if part == UNSEEN else f"{part} queries"


def figures(found: Estimate, sums: PairedSums) -> str:
    """Both means, the effect with its interval, and on how many queries, in words."""
    low, high = found.interval()
    units = (
        f"{sums.groups} queries"
        if sums.groups == sums.queries
        else f"{sums.queries:.0f} queries in {sums.groups} groups"
    )
    return (
        f"{sums.champion / sums.queries:.4f} to {sums.challenger / sums.queries:.4f}, "
        f"{found.effect:+.4f} (95 % {low:+.4f} to {high:+.4f}, {units})"
    )
