"""The test against the champion's scores: power where documents matter, silence where only browsing differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flywheel.clicks.checks.opinion import opinion
from flywheel.clicks.pages import ClickLog, Floats, ShownPage


def fixed_lists(rng: np.random.Generator, effect: float, queries: int = 400, pages: int = 1) -> tuple[ClickLog, Floats]:
    """Each query always shows the same list; clicks follow the rank, the query and the score."""
    shown = [
        ShownPage(f"q{q:04d}", f"p{q}-{n}", q * pages + n, [f"d{q:04d}-{k}" for k in range(8)], ())
        for q in range(queries)
        for n in range(pages)
    ]
    log = ClickLog.of(shown)
    own, count = log.query, queries
    slope = rng.gamma(2.0, 0.1, count)
    score = rng.normal(0, 0.1, log.pairs) - slope[log.pair_query] * np.log(np.tile(np.arange(1, 9), count))
    level, decay = np.exp(rng.normal(-1.5, 0.5, count)), 0.3 + 3 * slope
    liked = np.exp(rng.normal(0, 0.4, (count, 8)))
    rate = (level[:, None] * np.arange(1, 9) ** -decay[:, None] * liked)[own]
    better = (score[log.pair] - score[log.pair].mean(axis=1, keepdims=True)) / 0.1
    rate = np.minimum(rate * np.exp(effect * better), 0.9)
    return replace(log, clicked=rng.random(rate.shape) < rate), score


def test_it_tells_where_every_document_was_shown_once() -> None:
    """People who click what scores higher beyond its rank are found, though no document was shown to two of them."""
    for pages in (1, 10):
        rng = np.random.default_rng(1)
        log, score = fixed_lists(rng, 0.4, pages=pages)
        found = opinion(log, score, rng)
        assert found.holds
        assert found.z > 3


@pytest.mark.parametrize("pages", [1, 12])
def test_browsing_that_differs_by_query_is_no_effect_of_documents(pages: int) -> None:
    """Queries have browsing of their own, steeper where scores fall steeply; without an effect that is no alarm."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        log, score = fixed_lists(rng, 0.0, queries=200, pages=pages)
        found.append(opinion(log, score, rng))
    # 60 uniform p-values: fewer than 9 below 0.05 with a chance of 0.99
    assert sum(one.p <= 0.05 for one in found) < 9
    assert abs(np.mean([one.z for one in found])) < 3 / np.sqrt(60)


def test_without_scores_it_has_nothing_to_say() -> None:
    """Equal scores, or none at all, rule nothing out."""
    rng = np.random.default_rng(2)
    log, score = fixed_lists(rng, 0.4, queries=50)
    assert opinion(log, np.zeros_like(score), rng).p == 1.0
    assert opinion(log, np.full_like(score, np.nan), rng).queries == 0
