"""Who clicks a document: colluders who click nothing else are told from people who seldom click."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flywheel.clicks.colluders import MOST_ODDS, Company, idleness, log_betabinomial, log_binomial
from flywheel.clicks.evidence import Counts

DOCUMENTS, CLICKERS = 300, 12


def honest(rng: np.random.Generator, a: float = 1.5, b: float = 2.0) -> tuple[Counts, Counts]:
    """(documents, clickers): other pages of each, and of them with a click; everybody has a rate of their own."""
    pages = rng.integers(1, 15, (DOCUMENTS, CLICKERS))
    return pages, rng.binomial(pages, rng.beta(a, b, pages.shape))


def company(pages: Counts, active: Counts) -> Company:
    """A row for each clicker."""
    return Company(np.repeat(np.arange(len(pages)), CLICKERS), pages.ravel(), active.ravel(), np.ones(pages.size, int))


def test_clickers_who_click_nothing_else_are_found_and_nobody_else() -> None:
    """Seven idle clickers of twelve are nearly certain; of documents without any, few reach even odds of e to the 2."""
    rng = np.random.default_rng(0)
    pages, active = honest(rng)
    pages[:5, :7], active[:5, :7] = np.maximum(pages[:5, :7], 5), 0
    odds = idleness(company(pages, active), DOCUMENTS)
    assert odds[:5].min() > 4
    assert (odds[5:] > 2).mean() < 0.03


def test_high_odds_are_as_rare_among_honest_clickers_as_odds_must_be() -> None:
    """A likelihood ratio above e^x comes with a chance below e^-x, whatever the population's own habits are."""
    for seed, (a, b) in enumerate([(1.5, 2.0), (0.4, 2.0), (8.0, 1.0), (0.3, 0.3)]):
        found = []
        for run in range(5):
            pages, active = honest(np.random.default_rng([seed, run]), a, b)
            found.append(idleness(company(pages, active), DOCUMENTS))
        odds = np.concatenate(found)
        for level in (1.0, 2.0, 3.0):
            expected = np.exp(-level) * len(odds)
            assert (odds > level).sum() <= expected + 3 * np.sqrt(expected), (a, b, level)


def test_people_who_seldom_click_are_nothing_special_where_most_do() -> None:
    """Where nine of ten click on one page in twenty, a document that they all click is not suspected."""
    rng = np.random.default_rng(1)
    pages, active = honest(rng, 0.2, 4.0)
    assert active.mean() / pages.mean() < 0.1
    assert np.quantile(idleness(company(pages, active), DOCUMENTS), 0.99) < 2


def test_without_other_pages_or_with_few_people_nothing_is_said() -> None:
    """Nineteen clickers are too few to know what is usual; and odds have an end."""
    one = np.zeros(1, int)
    assert idleness(Company(one, one + 9, one, one + 19), 2).tolist() == [0, 0]
    assert idleness(Company(one[:0], one[:0], one[:0], one[:0]), 2).tolist() == [0, 0]
    rng = np.random.default_rng(2)
    pages, active = honest(rng)
    pages[0], active[0] = 30, 0
    assert idleness(company(pages, active), DOCUMENTS).max() == MOST_ODDS


def test_the_two_distributions_are_those_of_scipy() -> None:
    """Log chances equal those of `scipy.stats`, at the ends too."""
    trials = np.array([0, 1, 7, 7, 7, 2_000])
    hits = np.array([0, 1, 0, 7, 3, 40])
    assert log_binomial(trials, hits, 0.02) == pytest.approx(stats.binom.logpmf(hits, trials, 0.02))
    assert log_betabinomial(trials, hits, 0.3, 4.0) == pytest.approx(stats.betabinom.logpmf(hits, trials, 0.3, 4.0))
