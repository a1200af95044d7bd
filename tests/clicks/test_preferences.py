"""Preferences of neighbours in a random order tell what is liked, whatever people look at."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.pages import Floats
from flywheel.clicks.preferences import Preferences, agreeing

COUPLES, QUERIES = 120, 40


def swapped(attraction: Floats, looks: tuple[float, float], seed: int, pages: int = 20) -> Preferences:
    """Couple i is pairs 2 i and 2 i + 1; each stands below on about half of the pages. `looks`: above, and below."""
    rng = np.random.default_rng(seed)
    rows = []
    for couple in range(COUPLES):
        for lower, upper in ((2 * couple, 2 * couple + 1), (2 * couple + 1, 2 * couple)):
            n = rng.binomial(pages, 0.5)
            below = rng.random(n) < looks[1] * attraction[lower]
            above = rng.random(n) < looks[0] * attraction[upper]
            rows.append((couple % QUERIES, lower, upper, (below & ~above).sum(), n))
    query, lower, upper, preferred, shown = np.array(rows).T
    return Preferences(query, lower, upper, preferred.astype(float), shown.astype(float))


@pytest.mark.parametrize("looks", [(0.9, 0.1), (0.5, 0.5), (0.3, 0.9)])
def test_a_score_that_knows_is_told_from_one_that_does_not(looks: tuple[float, float]) -> None:
    """However people look, the true attraction is agreed with clearly, and its opposite as clearly not."""
    attraction = np.random.default_rng(1).uniform(0.1, 0.9, 2 * COUPLES)
    found = swapped(attraction, looks, 2, pages=60)
    told, inverted = agreeing(found, attraction), agreeing(found, -attraction)
    assert told is not None
    assert inverted is not None
    assert told.low > 0.5 > inverted.high
    assert told.share + inverted.share == pytest.approx(1)


def test_where_documents_do_not_matter_one_half_is_covered() -> None:
    """In 300 worlds of equal documents the 95 % interval of any score's share holds one half in 92 % at least."""
    rng, held = np.random.default_rng(3), []
    for seed in range(300):
        told = agreeing(swapped(np.full(2 * COUPLES, 0.4), (0.8, 0.3), seed), rng.random(2 * COUPLES))
        assert told is not None
        held.append(told.low <= 0.5 <= told.high)
    assert np.mean(held) >= 0.92


def test_a_score_that_leans_on_the_order_gains_nothing() -> None:
    """A score that prefers what stood above more often, as plain clicks do, is not agreed with more than by chance."""
    found = swapped(np.full(2 * COUPLES, 0.4), (0.9, 0.2), 5, pages=200)
    above = np.zeros(2 * COUPLES)
    np.add.at(above, found.upper, found.pages)
    told = agreeing(found, above)
    assert told is not None
    assert told.share < 0.5, "what stands above more often has fewer chances to be clicked below"


def test_few_preferences_say_nothing() -> None:
    """Fewer than 30, equal scores and unknown ones give no share."""
    attraction = np.linspace(0.2, 0.8, 2 * COUPLES)
    assert agreeing(swapped(attraction, (0.1, 0.1), 1, pages=1), attraction) is None
    assert agreeing(swapped(attraction, (0.5, 0.5), 1), np.zeros(2 * COUPLES)) is None
    assert agreeing(swapped(attraction, (0.5, 0.5), 1), np.full(2 * COUPLES, np.nan)) is None
