"""Examination by rank from documents that were shown at several ranks: a second opinion that needs no relevance.

It checks the click model and does not replace it. Where the counted clicks themselves move the ranking, documents that
were clicked by chance rise, and lower ranks look better than they are (0.06 too high in our simulation). Moves that
clicks did not cause (exploration, interleaving, a new champion's first day) have no such bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.evidence import Counts, Evidence, Floats

MIN_CLICKS = 100.0
GROUPS = ((2, 2), (3, 3), (4, 6), (7, 10))
"""Ranks that are checked together: single low ranks have too few clicks."""
CAUSED = 0.06
"""So much too high moves read low ranks that clicks caused themselves, in our simulation."""
_DOUBT = 2.5


@dataclass(frozen=True, slots=True)
class Harvest:
    """Chance to be examined relative to rank 1, and its standard error, (ranks,); NaN at ranks that no document moved
    to or from. `pairs` is how many pairs moved and were clicked, `clicks` how often."""

    examination: Floats
    standard_error: Floats
    pairs: int
    clicks: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """Ranks `first` to `last`: how much they are looked at relative to rank 1, by the click model and by documents
    that moved, with the latter's standard error."""

    first: int
    last: int
    model: float
    moved: float
    error: float

    def __str__(self) -> str:
        ranks = f"rank {self.first}" if self.first == self.last else f"ranks {self.first} to {self.last}"
        weighs = "clicks there weigh too much" if self.moved > self.model else "clicks there weigh too little"
        return (
            f"examination of {ranks} is {self.model:.2f} of rank 1 in the click model, and {self.moved:.2f} ± "
            f"{self.error:.2f} by documents that moved: {weighs}, unless clicks caused the moves"
        )


def doubts(examination: Floats, found: Harvest) -> tuple[Doubt, ...]:
    """Where the click model's `examination` (ranks,), relative to rank 1, is not that of documents that moved.

    Each of `GROUPS` is a mean by precision. Its error is as if the errors of its ranks were one, since all of them are
    relative to the same rank 1. A group is in doubt beyond 2.5 errors, upwards only beyond what moves that clicks
    caused explain too. It is a warning and no more: nobody knows here what caused the moves.
    """
    told = []
    ranks = min(len(examination), len(found.examination))
    for first, last in GROUPS:
        at = np.arange(first - 1, min(last, ranks))
        at = at[np.isfinite(found.standard_error[at]) & (found.standard_error[at] > 0)]
        if not len(at):
            continue
        weight = found.standard_error[at] ** -2.0
        weight = weight / weight.sum()
        model, moved, error = (float(weight @ of[at]) for of in (examination, found.examination, found.standard_error))
        if model - moved > _DOUBT * error or moved - model > _DOUBT * error + CAUSED:
            told.append(Doubt(first, last, model, moved, error))
    return tuple(told)


def harvest(evidence: Evidence, max_rank: int = 20, iterations: int = 200) -> Harvest | None:
    """Conditional maximum likelihood of E[clicks of pair i at rank k] = n_ik p_k g_i, over pairs seen at two ranks.

    Intervention harvesting after Agarwal et al. (WSDM 2019, AllPairs), with one nuisance for each pair, its attraction
    g_i, instead of one for each two ranks. It is Poisson with fixed effects: conditioning on a pair's clicks removes
    g_i without bias (Hausman, Hall & Griliches, Econometrica 1984, eq. 2.7). The standard errors are on the safe side
    where click rates are high. Returns None with fewer than 100 clicks, or with none at rank 1.
    """
    ranks = int(min(max_rank, evidence.rank.max(initial=0)))
    inside = evidence.rank <= ranks
    if evidence.grid is not None:
        inside &= ~evidence.grid  # another layout: a document that moves into it changes more than its rank
    key = evidence.pair[inside].astype(np.int64) * max(1, ranks) + evidence.rank[inside] - 1
    cells, which = np.unique(key, return_inverse=True)
    shown = np.bincount(which, weights=evidence.impressions[inside])
    clicks = np.bincount(which, weights=evidence.clicks[inside])
    pair, rank = cells // max(1, ranks), cells % max(1, ranks)
    informative = (np.bincount(pair)[pair] > 1) & (np.bincount(pair, weights=clicks)[pair] > 0) & (shown > 0)
    _, pair = np.unique(pair[informative], return_inverse=True)
    rank, shown, clicks = rank[informative], shown[informative], clicks[informative]
    at_rank = np.bincount(rank, weights=clicks, minlength=ranks)
    of_pair = np.bincount(pair, weights=clicks).astype(np.float64)
    if clicks.sum() < MIN_CLICKS or at_rank[0] <= 0:
        return None
    examined = 1 / np.arange(1, ranks + 1, dtype=np.float64)
    for _ in range(iterations):
        attraction = of_pair / np.bincount(pair, weights=shown * examined[rank])
        looked = np.bincount(rank, weights=shown * attraction[pair], minlength=ranks)
        # a rank without a click is examined almost never, not never: 0 would leave its pairs with nothing to explain
        after = np.maximum(at_rank, 1e-3) / np.maximum(looked, 1e-12)
        after /= after[0]
        settled = np.abs(after - examined)[looked > 0].max() < 1e-5
        examined = after
        if settled:
            break
    error = _standard_error(examined, pair, rank, shown, of_pair)
    reached = np.bincount(rank, minlength=ranks) > 0
    return Harvest(
        np.where(reached, examined, np.nan), np.where(reached, error, np.nan), len(of_pair), float(clicks.sum())
    )


def _standard_error(examined: Floats, pair: Counts, rank: Counts, shown: Floats, of_pair: Floats) -> Floats:
    """From the information of the multinomials of each pair's clicks over its ranks, log p_1 held at 0."""
    expected = shown * examined[rank]
    share = np.zeros((len(of_pair), len(examined)))
    share[pair, rank] = expected / np.bincount(pair, weights=expected)[pair]
    information = np.diag(of_pair @ share) - (share * of_pair[:, None]).T @ share
    variance = np.diag(np.linalg.pinv(information[1:, 1:]))
    return np.concatenate([[0.0], np.sqrt(np.maximum(variance, 0.0)) * examined[1:]])
