from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from flywheel.clicks.checks.order import auc, couples_across, couples_within, ranked
from flywheel.clicks.pages import Floats, Ints, PairCounts


def _counts(rank: Floats, impressions: Floats, clicks: Floats | None = None) -> PairCounts:
    zeros = np.zeros(len(rank))
    return PairCounts(impressions, zeros if clicks is None else clicks, rank, impressions, zeros)


def _some(seed: int, pairs: int = 300) -> tuple[Floats, Ints, PairCounts, Floats]:
    rng = np.random.default_rng(seed)
    relevant = rng.integers(0, 2, pairs).astype(np.float64)
    relevant[rng.random(pairs) < 0.1] = np.nan
    counts = _counts(rng.integers(1, 4, pairs).astype(float), rng.integers(1, 9, pairs).astype(float))
    return relevant, rng.integers(0, 20, pairs), counts, rng.normal(size=pairs) + np.nan_to_num(relevant)


def test_couples_are_all_that_were_shown_alike() -> None:
    """A loop over all pairs finds the same: one query, one rank, impressions of one power of √2, one good, one bad."""
    relevant, query, counts, _ = _some(0)
    cell = [
        (int(query[i]), round(counts.mean_rank[i]), round(2 * np.log2(counts.impressions[i])))
        for i in range(len(query))
    ]
    slow = {
        (i, j)
        for i, j in itertools.product(range(len(query)), repeat=2)
        if relevant[i] == 1 and relevant[j] == 0 and cell[i] == cell[j]
    }
    found = couples_within(relevant, query, counts)
    assert set(zip(found.good.tolist(), found.bad.tolist(), strict=True)) == slow
    assert len(found.good) == len(slow) > 50


def test_auc_is_mann_whitneys() -> None:
    """Among pairs that are all shown alike it is scipy's U over the number of couples."""
    rng = np.random.default_rng(1)
    relevant = (rng.random(200) < 0.4).astype(np.float64)
    score = np.round(rng.normal(size=200) + relevant, 1)
    counts = _counts(np.ones(200), np.ones(200))
    found = auc(couples_across(relevant, np.arange(200), counts, rng), {"s": score}, rng)["s"]
    u = mannwhitneyu(score[relevant == 1], score[relevant == 0]).statistic
    assert found.value == pytest.approx(u / (relevant.sum() * (1 - relevant).sum()))
    assert (found.apart, found.low, found.high) == (0.0, 0.0, 0.0)


def test_rank_alone_earns_nothing() -> None:
    """A score that is the rank, and a rank that predicts relevance, is worth 0.5 where ranks are equal."""
    rng = np.random.default_rng(2)
    rank = rng.integers(1, 11, 3_000).astype(np.float64)
    relevant = (rng.random(3_000) < 1 / rank).astype(np.float64)
    counts = _counts(rank, np.ones(3_000))
    couples = couples_across(relevant, rng.integers(0, 100, 3_000), counts, rng)
    assert auc(couples, {"rank": -rank}, rng)["rank"].value == 0.5


def test_the_interval_covers_the_difference_of_two_scores() -> None:
    """In 60 worlds the 95 % interval of the difference misses the mean of many worlds in no more than chance allows."""
    found = []
    for seed in range(60):
        relevant, query, counts, score = _some(seed + 10, pairs=800)
        rng = np.random.default_rng(seed)
        noisy = score + rng.normal(0, 1.0, len(score))
        found.append(auc(couples_within(relevant, query, counts), {"good": score, "noisy": noisy}, rng)["noisy"])
    truth = np.mean([one.apart for one in found])
    assert truth < -0.03
    # binomial (60, 0.05): more than 8 with a chance of 0.01
    assert sum(not one.low <= truth <= one.high for one in found) <= 8


def test_of_couples_with_one_click_the_click_decides() -> None:
    """They are those of whose two pairs just one was clicked."""
    relevant, query, counts, _ = _some(3)
    clicks = (np.arange(len(query)) % 3 == 0).astype(np.float64)
    told = couples_within(relevant, query, counts).one_clicked(clicks)
    assert ((clicks[told.good] > 0) != (clicks[told.bad] > 0)).all()
    assert auc(told, {"clicks": clicks}, np.random.default_rng(0))["clicks"].value == pytest.approx(
        (clicks[told.good] > clicks[told.bad]).mean()
    )


def test_without_couples_there_is_no_figure() -> None:
    """Nothing judged is an empty answer, not one half."""
    counts = _counts(np.ones(3), np.ones(3))
    nothing = couples_within(np.full(3, np.nan), np.zeros(3, np.int64), counts)
    assert auc(nothing, {"s": np.zeros(3)}, np.random.default_rng(0)) == {}


def test_rankings_are_by_score_and_ties_are_by_chance() -> None:
    """Each query's pairs stand in order of the score; equal ones in an order that changes with the generator."""
    score, query = np.array([0.1, 0.9, 0.5, 0.2, 0.3]), np.array([0, 0, 0, 1, 1])
    found = ranked(score, query, np.arange(5), np.random.default_rng(0))
    assert {key: pairs.tolist() for key, pairs in found.items()} == {0: [1, 2, 0], 1: [4, 3]}
    orders = {tuple(ranked(np.zeros(5), query, np.arange(5), np.random.default_rng(n))[0].tolist()) for n in range(40)}
    assert len(orders) == 6
