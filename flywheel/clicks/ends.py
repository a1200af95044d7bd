"""How clicks ended: satisfied, in between or bounced, and what that says for relevance beside the clicks themselves.

It knows nothing of ranks' click rates; `flywheel.clicks.examination` does.
"""

from __future__ import annotations

import numpy as np

from flywheel.clicks.evidence import Evidence, Floats, sums


class Ends:
    """How clicks end (satisfied, in between, bounced), with rates for relevant and irrelevant documents.

    It says nothing until ends go with relevance as clicks alone tell it, and then only that way round: a satisfied
    click never speaks against relevance, and a bounced one never for it.
    """

    strength = 10.0
    least_z = 2.5
    """Standard errors up to which ends are taken for noise. One fit in 160 is beyond by chance, and says little."""
    ranks = 3

    def __init__(self, evidence: Evidence) -> None:
        between = np.maximum(0, evidence.measured - evidence.satisfied - evidence.bounced)
        self.counts = np.stack([evidence.satisfied, between, evidence.bounced], axis=1)
        self.measured = self.counts.sum(axis=1)
        self.rank = np.clip(np.round(evidence.mean_rank()).astype(np.int64), 1, self.ranks) - 1
        all_ends = self.counts.sum(axis=0) + 1e-3
        usual = all_ends / all_ends.sum()
        by_rank = np.stack([sums(self.rank, column, self.ranks) for column in self.counts.T], axis=1)
        self.usual = (by_rank + self.strength * usual) / (by_rank.sum(axis=1, keepdims=True) + self.strength)
        self.weight = by_rank.sum(axis=1) + 1e-9
        self.good = self.bad = self.overall = np.average(self.usual, axis=0, weights=self.weight)

    def log_odds(self) -> Floats:
        """What each pair's measured clicks say for relevance: (pairs,)."""
        odds: Floats = self.counts @ np.log(self.good / self.bad)
        return odds

    def maximise(self, by_clicks: Floats) -> None:
        """Fit the rates to the chance of relevance of each pair as its clicks alone tell it, without their ends.

        Regression of ends on that chance: a share of ends is bad + (good - bad) * chance on average. It is done among
        pairs of one rank, since ranks explain both. A mixture fitted to the ends themselves would split documents that
        differ in length, whatever is relevant. The score test's error is by pair (White, Econometrica 1980), because
        the ends of one document's clicks resemble each other. Rates move apart by 1 - (least_z / z)² of what was found,
        so that nothing jumps where ends begin to count. They are the same at all ranks: where few clicks tell the
        chances of a rank, rates of its own would take a wrong level of those for an end that proves everything.
        """
        middle = sums(self.rank, self.measured * by_clicks, self.ranks) / self.weight
        apart = by_clicks - middle[self.rank]
        excess = self.counts - self.measured[:, None] * self.usual[self.rank]
        score = apart * (excess[:, 0] - excess[:, 2])
        z = float(score.sum() / max(np.sqrt((score**2).sum()), 1e-12))
        kept = 1 - (self.least_z / z) ** 2 if z > self.least_z else 0.0
        spread = float(np.average(middle * (1 - middle), weights=self.weight))
        slope = kept * (apart @ excess) / max(float(self.measured @ apart**2) + self.strength * spread, 1e-9)
        chance = float(np.average(middle, weights=self.weight))
        good, bad = (np.maximum(self.overall + share * slope, 0.01 * self.overall) for share in (1 - chance, -chance))
        self.good, self.bad = _ordered(good / good.sum(), bad / bad.sum(), self.overall)


def _ordered(good: Floats, bad: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """The rates with good / bad falling from the first end to the last: neighbours that do not are pooled by `weight`.

    Pool adjacent violators (Ayer et al., Annals of Mathematical Statistics 1955). Since both sum to 1, the first ratio
    is then at least 1 and the last at most 1.
    """
    groups = [[end] for end in range(len(good))]
    at = 1
    while at < len(groups):
        above, below = groups[at - 1], groups[at]
        if good[below].sum() * bad[above].sum() > good[above].sum() * bad[below].sum():
            groups[at - 1 : at + 1] = [above + below]
            at = max(1, at - 1)
        else:
            at += 1
    for group in groups:
        share = weight[group] / weight[group].sum()
        good[group], bad[group] = good[group].sum() * share, bad[group].sum() * share
    return good, bad
