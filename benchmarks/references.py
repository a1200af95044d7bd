"""Formulas that only comparisons need: what clicks earn each ranker, what was found, and what published methods say."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from flywheel.clicks.pairs import Pairs
from flywheel.daemon.local import Installation
from flywheel.stats.budget import ErrorBudget
from flywheel.stats.interleaving import BOTH, CHALLENGER, CHAMPION
from flywheel.stats.sequential import Scales

ONE_SCALE: Scales = ((1.0, 1.0),)
"""The mixture of one scale, as Waudby-Smith et al. (2024) have it and gbstats computes it."""


def credit(teams: Collection[str], clicked: Collection[int]) -> tuple[float, float]:
    """What champion and challenger earn on one interleaved page; `clicked` holds 1-based ranks."""
    earned = {CHAMPION: 0.0, CHALLENGER: 0.0, BOTH: 0.0}
    for rank, team in enumerate(teams, 1):
        earned[team] += rank in clicked
    return earned[CHAMPION], earned[CHALLENGER]


def expected_false_promotions(budget: ErrorBudget, days: float = 365.25) -> float:
    """At most, on average over so many days in which no challenger is better: see `ErrorBudget` for the bound."""
    return days / budget.renew_days * budget.initial * budget.alpha / (1 - budget.alpha)


def expected_for(users: int, spread: float, *, alpha: float = 0.05) -> float:
    """The `expected` effect for which a sequence of one scale is narrowest at so many users.

    `spread` is the standard deviation of the estimate at one user (standard error times the square root of users).
    Waudby-Smith et al. (2024), eq. 161 of version 7: rho = sqrt((-2 log alpha + log(-2 log alpha + 1)) / users).
    """
    rho = math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / users)
    return rho * spread


def positives(pairs: Pairs) -> set[tuple[str, str]]:
    """(query key, document) of every positive."""
    labelled = zip(pairs.query_key, pairs.doc_id, pairs.label, strict=True)
    return {(query, document) for query, document, label in labelled if label == "positive"}


def ranked(parts: Installation, queries: Sequence[str], k: int) -> list[list[str]]:
    """The champion's first `k` documents for each query, as a search would show them now."""
    version = parts.store.models.aliases()["champion"]
    vectors = parts.registry.encoder(version).encode_queries(list(queries))
    return parts.indexers.of(version).index.search(vectors, k)[0]
