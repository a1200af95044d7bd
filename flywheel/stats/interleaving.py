"""Two rankings on one page: which side drafts a hit, which side earns its clicks, and which one users prefer.

A hit that both would draft next earns neither side anything: only where the rankers differ is there something to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from flywheel.stats.estimate import Estimate, Inconclusive

CHAMPION, CHALLENGER, BOTH = "champion", "challenger", "both"


def team_draft(
    champion: Sequence[str], challenger: Sequence[str], k: int, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """The page of `k` hits and, for each, the team that drafted it.

    Radlinski, Kurup & Joachims (2008), "How does clickthrough data reflect retrieval quality?", alg. 1: in each round a
    coin says which side drafts first, and each side drafts its best hit that is not on the page yet. A hit that both
    would draft next goes to `both`, after Chapelle et al. (2012), "Large-scale validation and analysis of interleaved
    search evaluation", §5: its clicks carry noise and no preference.
    """
    page: list[str] = []
    teams: list[str] = []
    shown: set[str] = set()
    sides = {CHAMPION: champion, CHALLENGER: challenger}
    next_of = {CHAMPION: 0, CHALLENGER: 0}
    turns: list[str] = []
    while len(page) < k:
        for side, hits in sides.items():
            while next_of[side] < len(hits) and hits[next_of[side]] in shown:
                next_of[side] += 1
        left = [side for side in sides if next_of[side] < len(sides[side])]
        if not left:
            break
        # a shared hit is nobody's only at the start of a round: in its middle the other side is owed a draft
        if len(left) == 2 and not turns and champion[next_of[CHAMPION]] == challenger[next_of[CHALLENGER]]:
            side, team = CHAMPION, BOTH
        else:
            if not turns:
                turns = [CHAMPION, CHALLENGER] if rng.random() < 0.5 else [CHALLENGER, CHAMPION]
            side = turns.pop(0)
            if side not in left:
                continue
            team = side
        hit = sides[side][next_of[side]]
        page.append(hit)
        teams.append(team)
        shown.add(hit)
    return page, teams


@dataclass(frozen=True, slots=True)
class PreferenceSums:
    """Sums over users of their preference m = (challenger - champion) / (challenger + champion), from -1 to 1.

    Users whose clicks earned neither side anything have no preference; `undecided` counts them. Each user is one vote,
    however much the user clicks.
    """

    users: int = 0
    undecided: int = 0
    preference: float = 0.0
    preference_squared: float = 0.0
    for_challenger: int = 0
    for_champion: int = 0

    @classmethod
    def of(cls, champion: npt.NDArray[np.float64], challenger: npt.NDArray[np.float64]) -> PreferenceSums:
        """From each user's credits over the whole experiment, float64 (users,) each."""
        total = champion + challenger
        decided = total > 0
        m = (challenger - champion)[decided] / total[decided]
        return cls(
            users=len(m),
            undecided=int((~decided).sum()),
            preference=float(m.sum()),
            preference_squared=float(m @ m),
            for_challenger=int((m > 0).sum()),
            for_champion=int((m < 0).sum()),
        )

    def __add__(self, other: PreferenceSums) -> PreferenceSums:
        return PreferenceSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def as_dict(self) -> dict[str, float]:
        """The sums by name, for the record of a decision."""
        return asdict(self)

    def compare(self) -> Estimate | Inconclusive:
        """Mean preference over users who have one: above 0 they prefer the challenger. One-sample t (Student 1908).

        Chapelle et al. (2012), eq. 1, counts users' votes likewise; here a vote also says how clear it was. Where all
        users say the same there is no spread: the error is then the one that one more user of the opposite mind
        would bring.
        """
        if self.users < 2:
            return Inconclusive(f"{self.users} users with a preference; two are the least that have a spread")
        mean = self.preference / self.users
        variance = (self.preference_squared - self.users * mean**2) / (self.users - 1)
        if variance < 1e-9:
            variance = 4 * mean**2 / (self.users + 1)
        return Estimate(mean, float(np.sqrt(variance / self.users)), self.users - 1)
