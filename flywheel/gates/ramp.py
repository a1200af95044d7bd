"""How a split grows: from one share of the people to the next while nothing speaks against it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.gates.offline import GateDecision

HOUR_MS = 3_600_000


def next_share(
    share: float, ramp: Sequence[float], decision: GateDecision, *, since_ms: int, until_ms: int, hours: float
) -> float:
    """The share after a look that ended nothing: the next of `ramp` once this one was held for `hours` of event time,
    with people in both arms and no guardrail in doubt; else the same."""
    above = [step for step in ramp if step > share]
    users = decision.evidence["users"]
    held = until_ms - since_ms >= hours * HOUR_MS and min(users.get(arm, 0) for arm in ("champion", "challenger")) > 0
    return above[0] if above and held and not decision.evidence["doubts"] else share
