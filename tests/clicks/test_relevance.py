from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.clicks.evidence import ScoreFeatures
from flywheel.clicks.relevance import Ends, design, logistic
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


def test_how_clicks_end_speaks_for_relevance_once_it_differs() -> None:
    """After learning that relevant documents satisfy, a satisfied click raises the odds and a bounce lowers them."""
    pairs = np.zeros(FOUND.pairs)
    good = np.arange(FOUND.pairs) % 4 == 0
    counts = dataclasses.replace(
        FOUND, measured=pairs + 10, satisfied=np.where(good, 9.0, 1.0), bounced=np.where(good, 1.0, 9.0)
    )
    ends = Ends(counts)
    ends.maximise(good.astype(np.float64))
    assert ends.log_odds()[good].min() > 5
    assert ends.log_odds()[~good].max() < -5


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


def _ends(chance: np.ndarray, ends: np.ndarray) -> Ends:
    """`chance` of relevance by clicks, (pairs,); `ends` of clicks, satisfied, between, bounced: (pairs, 3)."""
    pairs = np.arange(len(ends), dtype=np.int32)
    evidence = dataclasses.replace(
        FOUND, measured=ends.sum(axis=1), satisfied=ends[:, 0], bounced=ends[:, 2], pair_query=pairs,
        pair_document=pairs, pair=pairs, rank=pairs % 7 + 1, impressions=np.ones(len(ends)), clicks=np.ones(len(ends)),
    )  # fmt: skip
    found = Ends(evidence)
    for _ in range(3):
        found.maximise(chance)
    return found


def _lives(seed: int, good: list[float], bad: list[float], pairs: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose clicks end by relevance, and by a habit of each document's own beside."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.4, 0.8, pairs)
    relevant = rng.random(pairs) < chance
    rates = np.where(relevant[:, None], good, bad)
    own = np.stack([rng.dirichlet(6 * rate) for rate in rates])
    return chance, np.stack([rng.multinomial(rng.integers(0, 9), rate) for rate in own]).astype(np.float64)


def test_ends_that_owe_nothing_to_relevance_say_nothing() -> None:
    """Of 300 worlds in which documents differ in dwell and relevance does not matter, at most 2 % move any odds."""
    moved = [np.abs(_ends(*_lives(seed, [0.4, 0.3, 0.3], [0.4, 0.3, 0.3])).log_odds()).max() > 0 for seed in range(300)]
    assert np.mean(moved) <= 0.02


def test_ends_that_separate_are_found_as_they_are() -> None:
    """Where relevant documents satisfy more, the rates come out, so that ends tell relevance better than without."""
    chance, ends = _lives(1, [0.6, 0.25, 0.15], [0.2, 0.3, 0.5], pairs=4_000)
    found = _ends(chance, ends)
    assert found.good == pytest.approx([0.6, 0.25, 0.15], abs=0.05)
    assert found.bad == pytest.approx([0.2, 0.3, 0.5], abs=0.05)


@given(
    seed=st.integers(0, 10_000),
    good=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
    bad=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
    pairs=st.integers(2, 400),
)
@settings(max_examples=60, deadline=None)
def test_a_bounce_never_speaks_for_relevance(seed: int, good: list[float], bad: list[float], pairs: int) -> None:
    """However clicks end, also the other way round, a satisfied one counts most and above 0, a bounced one least."""
    found = _ends(*_lives(seed, [x / sum(good) for x in good], [x / sum(bad) for x in bad], pairs))
    ratio = np.log(found.good / found.bad)
    assert (np.diff(ratio) <= 1e-9).all()
    assert ratio[0] >= -1e-9
    assert ratio[2] <= 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_level_of_chances_at_a_rank_makes_no_end_a_proof(seed: int) -> None:
    """Where clicks overrate the first rank, a satisfied click there counts little more than it should."""
    chance, ends = _lives(seed, [0.8, 0.05, 0.15], [0.15, 0.05, 0.8], pairs=2_000)
    first = np.arange(len(chance)) % 7 == 0
    odds = _ends(np.where(first, np.minimum(1, chance + 0.4), chance), ends).log_odds()
    one = first & (ends.sum(axis=1) == 1) & (ends[:, 0] == 1)
    assert odds[one].max() < 1.3 * np.log(0.8 / 0.15)


def test_inverted_ends_change_nothing() -> None:
    """Where people leave relevant documents sooner, the fit is the one without any dwell."""
    chance, ends = _lives(2, [0.2, 0.3, 0.5], [0.6, 0.25, 0.15], pairs=2_000)
    assert not _ends(chance, ends).log_odds().any()
