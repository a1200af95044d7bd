from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flywheel.clicks.evidence import ScoreFeatures
from flywheel.clicks.prior import design, logistic
from tests.clicks.test_model import World

FOUND = World(queries=40).clicked("pbm", 2000, 0)


def test_the_champions_rank_counts_a_querys_own_pairs() -> None:
    """Within each query the best score has rank 1 and gap 0, the worst the last rank."""
    score = np.random.default_rng(0).random(FOUND.pairs)
    features = ScoreFeatures.of(FOUND, score)
    for query in range(40):
        own = FOUND.pair_query == query
        assert features.rank is not None
        assert (features.rank[own] == (-score[own]).argsort().argsort() + 1).all()
        assert features.gap[own].min() == 0


def test_a_document_that_exploration_lifted_keeps_the_champions_own_rank() -> None:
    """Shown at rank 1 but ranked last by the champion, a pair has the feature of the last rank."""
    score = -FOUND.mean_rank()  # the champion agrees with every page
    features = ScoreFeatures.of(FOUND, score)
    plain = design(FOUND, features)[:, 3]
    assert plain == pytest.approx(design(FOUND, dataclasses.replace(features, rank=None))[:, 3], abs=0.05)
    lifted = int(np.flatnonzero(FOUND.mean_rank() == 1)[0])
    score[lifted] = -99.0
    feature = design(FOUND, ScoreFeatures.of(FOUND, score))[:, 3]
    assert feature[lifted] == pytest.approx(feature[FOUND.pair_query == FOUND.pair_query[lifted]].max())
    assert plain[lifted] == plain.min()


def test_words_count_against_the_best_of_the_query() -> None:
    """Of whatever scale, they become 1 for the query's best pair and stay in proportion; nobody asked, no column."""
    words = np.random.default_rng(1).random(FOUND.pairs) * 20
    words[FOUND.pair_query == 3] = 0.0
    share = ScoreFeatures.of(FOUND, words, words).words
    assert share is not None
    for query in range(40):
        own = FOUND.pair_query == query
        assert share[own] == pytest.approx(words[own] / max(1e-9, words[own].max()))
    assert design(FOUND, ScoreFeatures.of(FOUND, words, words)).shape[1] == 1 + 4 * 3
    assert design(FOUND, ScoreFeatures.of(FOUND, words)).shape[1] == 1 + 3 * 3


def test_the_regression_recovers_the_weights_that_made_the_labels() -> None:
    """Newton's method on soft labels finds the coefficients of a logistic world, and the same from a poor start."""
    rng = np.random.default_rng(1)
    columns = np.concatenate([np.ones((20_000, 1)), rng.standard_normal((20_000, 2))], axis=1)
    truth = np.array([-2.0, 1.5, -0.5])
    target = 1 / (1 + np.exp(-columns @ truth))
    assert logistic(columns, target, np.zeros(3), steps=50) == pytest.approx(truth, abs=0.01)
    assert logistic(columns, target, np.array([5.0, -5.0, 5.0]), steps=50) == pytest.approx(truth, abs=0.01)


def test_what_comes_from_below_the_first_page_is_not_thought_hopeless() -> None:
    """Relevance falls steeply on the page and no further below it: there the prior finds about as much as there is."""
    rng = np.random.default_rng(2)
    rank = np.concatenate([np.tile(np.arange(1.0, 11), 400), rng.integers(11, 21, 400)])
    chance = 0.5 * np.exp(-(rank - 1) / 1.5) + np.where(rank > 10, 0.05, 0.01)
    count, relevant = len(rank), (rng.random(len(rank)) < chance).astype(float)
    pairs, none = np.arange(count, dtype=np.int32), np.zeros(count)
    found = dataclasses.replace(
        FOUND, pair_query=pairs, pair_document=pairs, measured=none, satisfied=none, bounced=none,
        pair=pairs, rank=np.minimum(rank, 10).astype(np.int32), impressions=none + 1, clicks=none,
    )  # fmt: skip
    score = 0.7 - 0.02 * rank + rng.normal(0, 0.02, count)
    columns = design(found, ScoreFeatures(score, 0.7 - score, rank))
    prior = 1 / (1 + np.exp(-columns @ logistic(columns, relevant, np.zeros(columns.shape[1]), steps=50)))
    below = rank > 10
    assert relevant[below].sum() / 1.5 < prior[below].sum() < relevant[below].sum() * 1.5
