"""Do clicks mean anything here: what both tests say together, and in one sentence. It alone refuses clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.checks.agreement import LEVEL, Agreement, agreement
from flywheel.clicks.checks.opinion import Opinion, opinion
from flywheel.clicks.evidence import Evidence
from flywheel.clicks.pages import ClickLog, Floats


@dataclass(frozen=True, slots=True)
class Meaning:
    """What people's agreement says, and where it says nothing, whether they click what the champion prefers."""

    agreement: Agreement
    opinion: Opinion | None = None

    @property
    def holds(self) -> bool:
        """Whether clicks teach."""
        return self.agreement.holds or (self.opinion is not None and self.opinion.holds)

    @property
    def sentence(self) -> str:
        """What is the case, and what would change it."""
        if self.agreement.holds:
            return "different people click the same documents, beyond what rank and query explain"
        if self.opinion is not None and self.opinion.holds:
            return "people click documents that the champion scores higher, beyond what the rank explains"
        if not self.agreement.queries:
            return (
                "clicks do not show yet which documents are relevant: no two people saw different lists of one query "
                "and clicked, which would tell if they agree; more pages of the same queries are needed, or exploration"
            )
        return (
            f"clicks do not show yet which documents are relevant: chance explains as well where people click "
            f"(p {self.agreement.p:.2g}, and it takes {LEVEL:g}); only {self.agreement.clicks} clicks of "
            f"{self.agreement.queries} queries lie where documents changed places between people, so more pages of the "
            f"same queries are needed, or exploration"
        )


def meaning(log: ClickLog, score: Floats, rng: np.random.Generator) -> Meaning:
    """Test agreement, and only where it is not shown the champion's opinion; `score`, (pairs,), as `opinion` takes."""
    agreed = agreement(log, rng)
    return Meaning(agreed, None if agreed.holds else opinion(log, score, rng))


def scores_on(log: ClickLog, evidence: Evidence, cosines: Floats) -> Floats:
    """The evidence's scores by the log's pairs: (pairs,), NaN where the evidence has no such pair or no score (0)."""
    query = {name: row for row, name in enumerate(evidence.queries)}
    document = {name: row for row, name in enumerate(evidence.documents)}
    wide = len(evidence.documents) + 1
    key = evidence.pair_query.astype(np.int64) * wide + evidence.pair_document
    order = np.argsort(key, kind="stable")
    rows = np.array([query.get(name, -1) for name in log.queries], np.int64)
    places = np.array([document.get(name, -1) for name in log.documents], np.int64)
    wanted = rows[log.pair_query] * wide + places[log.pair_document]
    at = np.minimum(np.searchsorted(key[order], wanted), max(0, len(key) - 1))
    if not len(key):
        return np.full(log.pairs, np.nan)
    hit = (key[order][at] == wanted) & (rows[log.pair_query] >= 0) & (places[log.pair_document] >= 0)
    found = np.where(hit, cosines[order][at], 0.0)
    return np.where(found != 0, found, np.nan)
