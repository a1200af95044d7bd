"""What every gate speaks of: the verdict, the policy it goes by, its guardrails, and the decision that comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What a gate says. `INCONCLUSIVE` is an answer: there is not enough to tell, and the reasons say why."""

    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A live metric that must not rise by more than the larger of two: `margin`, a share of the champion's, and
    `floor`. The floor is for rates near 0, where a relative change means little. With `falls` it must not fall."""

    metric: str
    margin: float
    floor: float
    falls: bool = False


GUARDRAILS = (
    Guardrail("latency_ms", margin=0.10, floor=5.0),
    Guardrail("empty_rate", margin=0.02, floor=0.002),
    Guardrail("abandonment", margin=0.02, floor=0.002),
    Guardrail("thumbs_down", margin=0.10, floor=0.0005),
)


EXACT_FROM = 15
"""Judged queries from which on an exact test may decide; below, even a gain on most of them may be luck."""


def too_few(judged: int, least: int) -> str | None:
    """What so few judged queries cannot do, where `least` are the least for the usual test; None where they can."""
    if judged >= least:
        return None
    fewest = min(EXACT_FROM, least)
    below = f"below {least} in all golden sets (promotion.min_queries)"
    if fewest == least:
        return f"{below} nothing is promoted"
    return f"{below} only a large gain is promoted, and below {fewest} nothing"


@dataclass(frozen=True, slots=True)
class PromotionPolicy:
    """`[promotion]` of the configuration, filled in by `flywheel.gates.judged.policy_of`, and constants below it.

    From `exact_from` judged queries on, below `min_queries`, an exact test decides. `loss_level` is the chance of
    holding back a challenger that changes nothing, for each guarded part (all, unseen, each anchor set, each live
    guardrail). `feedback_level` is that chance for held-out feedback, all its parts together. `screens`: live stages
    follow and decide. `expected_gain` (relative) and `expected_preference` are the live effects that are found soonest;
    any value keeps the error rate. `looks` are shares of `max_days` at which a live gain is tested, by group-sequential
    bounds; without them it is tested at any time, by e-values. `cuped` takes what users did before out of the live
    metric, where that is known. `lower` are metrics of which less is better.
    """

    metrics: tuple[str, ...]
    min_effect: float
    margin: float
    anchor_margin: float
    min_queries: int
    min_unseen: int
    feedback_margin: float
    min_feedback: int
    screens: bool
    min_users: int
    min_days: float
    max_days: float
    looks: tuple[float, ...]
    cuped: bool
    live_metric: str
    exact_from: int = EXACT_FROM
    loss_level: float = 0.16
    feedback_level: float = 0.05
    expected_gain: float = 0.03
    expected_preference: float = 0.05
    guardrails: tuple[Guardrail, ...] = GUARDRAILS
    lower: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A verdict, its reasons, the sums that reproduce it as plain values, and the alpha that it spent.

    `final` is false only where the challenger's way goes on: nothing is told yet, and nothing is spent. `headline` says
    it in one sentence for people who decide; see `flywheel.gates.sentences`.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    spent: float
    final: bool = True
    headline: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The same, as plain values."""
        return {
            "verdict": self.verdict.value,
            "headline": self.headline,
            "reasons": list(self.reasons),
            "evidence": self.evidence,
            "spent": self.spent,
            "final": self.final,
        }
