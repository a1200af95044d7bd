"""What voids a live experiment: an unplanned split, people in both arms, an effect beyond all experience."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flywheel.stats.srm import sample_ratio

# with more users than this in both arms the split is not sticky
CROSSED_SHARE = 0.05
# looked at every day for four weeks, it voids fewer than one clean split in a hundred
SRM_LEVEL = 0.0005
# Twyman's law (Kohavi, Tang & Xu 2020, "Trustworthy Online Controlled Experiments", ch. 3): what looks too good is a
# fault. No ranking has made people click ten times as often or as seldom; an arm that logs otherwise has
IMPLAUSIBLE = math.log(10.0)


def broken_split(users: Mapping[str, int], shares: Mapping[str, float], crossed: int) -> str | None:
    """Why nothing can be told from this split, if so.

    `users` by the arm that they were assigned to; `shares` of the people that were planned for each arm, empty where
    nothing was split; `crossed` users met both arms.
    """
    if shares:
        asked = {arm: count for arm, count in users.items() if arm in shares}
        ratio = sample_ratio(asked, shares, level=SRM_LEVEL)
        if ratio.mismatch:
            return ratio.reason
    total = max(crossed, sum(users.values()))
    if crossed > CROSSED_SHARE * total:
        return f"{crossed} of {total} users met both arms: the split is not sticky, nothing can be told apart"
    return None
