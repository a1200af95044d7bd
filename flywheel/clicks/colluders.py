"""The company that a document's clicks keep: people who click elsewhere as well, or people who click nothing else.

Colluders who only ever click one document look like anybody on the pages that show it. On their other pages they do
not: nobody else looks at ten pages, clicks nothing on nine of them, and meets again at one document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import betabinom, binom

from flywheel.clicks.evidence import Counts, Floats, sums

SHARES = (0.2, 0.4, 0.6, 0.8)
STRAY = 0.02
MOST_ODDS = 6.0  # about as much as being bait is unlikely: groups of people differ, and some click for one thing alone
_FEW = 20


@dataclass(frozen=True, slots=True)
class Company:
    """Rows of (document, other pages, of them with a click): how many `people` clicked the document and did that."""

    document: npt.NDArray[np.int64]
    pages: Counts
    active: Counts
    people: Counts


def idleness(company: Company, documents: int) -> Floats:
    """(documents,): log odds, at least 0, that some of a document's clickers are people who click nothing else.

    A likelihood ratio: a share of the clickers, one of `SHARES` with equal chances, clicks on `STRAY` of its other
    pages, the rest as clickers of any document do; against all of them clicking so. What those do is beta-binomial,
    fitted by maximum likelihood (Skellam, JRSS B 1948) to the clickers of all documents, so that people who seldom
    click are nothing special. 0 where a document's clickers have no other pages, at most `MOST_ODDS`.
    """
    if company.people.sum() < _FEW:
        return np.zeros(documents)
    cells, which = np.unique(np.stack([company.pages, company.active]), axis=1, return_inverse=True)
    people = sums(which, company.people.astype(np.float64), cells.shape[1])
    usual = betabinom.logpmf(cells[1], cells[0], *_habits(cells, people))
    ratio = binom.logpmf(cells[1], cells[0], STRAY) - usual
    odds = []
    for share in SHARES:
        each = np.logaddexp(np.log1p(-share), np.log(share) + ratio)[which] * company.people
        odds.append(sums(company.document, each, documents))
    found: Floats = np.clip(logsumexp(np.stack(odds), axis=0) - np.log(len(SHARES)), 0.0, MOST_ODDS)
    return found


def _habits(cells: Counts, people: Floats) -> tuple[float, float]:
    """The beta-binomial's two parameters, from how many did what: `cells` (2, n) of (pages, active)."""
    share = float((cells[1] * people).sum() / (cells[0] * people).sum())
    start = np.log([max(share, 0.01) * 4, max(1 - share, 0.01) * 4])

    def unlikely(log_parameters: Floats) -> float:
        a, b = np.exp(log_parameters)
        return float(-(people * betabinom.logpmf(cells[1], cells[0], a, b)).sum())

    found = minimize(unlikely, start, method="L-BFGS-B", bounds=[(-5.0, 8.0)] * 2)
    a, b = np.exp(found.x)
    return float(a), float(b)
