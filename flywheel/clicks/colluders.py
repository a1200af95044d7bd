"""Tells documents whose clickers click elsewhere as well from documents whose clickers click nothing else.

It excludes nobody. On the pages that show their document, colluders look like anybody. Their other pages give them
away: nobody else looks at ten pages, clicks nothing on nine of them, and meets again at one document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, logsumexp, xlog1py, xlogy

from flywheel.clicks.evidence import Counts, Floats, sums

SHARES = (0.2, 0.4, 0.6, 0.8)
STRAY = 0.02
# about the log odds against being bait (`model.BAIT`): some honest groups of people click for one thing alone
MOST_ODDS = 6.0
_FEW = 20  # people; fewer do not settle the two parameters of their habits


@dataclass(frozen=True, slots=True)
class Company:
    """How many `people` clicked a `document` and had so many other `pages`, `active` of them with a click; by row."""

    document: npt.NDArray[np.int64]
    pages: Counts
    active: Counts
    people: Counts


def idleness(company: Company, documents: int) -> Floats:
    """(documents,): log odds, at least 0, that some of a document's clickers are people who click nothing else.

    A likelihood ratio of two cases. In one, a share of the clickers (one of `SHARES`, with equal chances) clicks on
    `STRAY` of its other pages, and the rest click as clickers of any document do. In the other, all of them do. Usual
    habits are beta-binomial, fitted by maximum likelihood (Skellam, JRSS B 1948) to the clickers of all documents, so
    that people who seldom click do not stand out. 0 where clickers have no other pages, at most `MOST_ODDS`.
    """
    if company.people.sum() < _FEW:
        return np.zeros(documents)
    cells, which = np.unique(np.stack([company.pages, company.active]), axis=1, return_inverse=True)
    people = sums(which, company.people.astype(np.float64), cells.shape[1])
    pages, active = cells
    usual = log_betabinomial(pages, active, *_habits(cells, people))
    ratio = log_binomial(pages, active, STRAY) - usual
    odds = []
    for share in SHARES:
        each = np.logaddexp(np.log1p(-share), np.log(share) + ratio)[which] * company.people
        odds.append(sums(company.document, each, documents))
    log_odds: Floats = np.clip(logsumexp(np.stack(odds), axis=0) - np.log(len(SHARES)), 0.0, MOST_ODDS)
    return log_odds


def log_binomial(trials: Counts, hits: Counts, chance: float) -> Floats:
    """Log chances of so many `hits` in so many `trials`. `scipy.stats` says the same, and takes a second to load."""
    choices = -np.log1p(trials) - betaln(trials - hits + 1, hits + 1)
    return np.asarray(choices + xlogy(hits, chance) + xlog1py(trials - hits, -chance), np.float64)


def log_betabinomial(trials: Counts, hits: Counts, a: float, b: float) -> Floats:
    """Log chances of so many `hits` in so many `trials` where each row's own chance is Beta(a, b)."""
    choices = -np.log1p(trials) - betaln(trials - hits + 1, hits + 1)
    return np.asarray(choices + betaln(hits + a, trials - hits + b) - betaln(a, b), np.float64)


def _habits(cells: Counts, people: Floats) -> tuple[float, float]:
    """The beta-binomial's two parameters, from the numbers of people (n,) by `cells` (2, n) of (pages, active)."""
    share = float((cells[1] * people).sum() / (cells[0] * people).sum())
    start = np.log([max(share, 0.01) * 4, max(1 - share, 0.01) * 4])

    def unlikely(log_parameters: Floats) -> float:
        a, b = np.exp(log_parameters)
        return float(-(people * log_betabinomial(cells[0], cells[1], float(a), float(b))).sum())

    # bounded: where people differ no more than by chance, the likelihood rises towards infinite parameters
    fitted = minimize(unlikely, start, method="L-BFGS-B", bounds=[(-5.0, 8.0)] * 2)
    a, b = np.exp(fitted.x)
    return float(a), float(b)
