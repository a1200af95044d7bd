"""How a split grows: from one share of the people to the next. It refuses to grow while a guardrail is in doubt."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.gates.decision import GateDecision

HOUR_MS = 3_600_000


def next_share(
    share: float, ramp: Sequence[float], decision: GateDecision, *, since_ms: int, until_ms: int, hours: float
) -> float:
    """The share after a look that did not end the experiment: the next of `ramp`, or the same.

    It grows once this share has lasted `hours` of event time, with people in both arms and no guardrail in doubt.
    """
    above = [step for step in ramp if step > share]
    users = decision.evidence["users"]
    lasted = until_ms - since_ms >= hours * HOUR_MS and min(users.get(arm, 0) for arm in ("champion", "challenger")) > 0
    return above[0] if above and lasted and not decision.evidence["doubts"] else share
