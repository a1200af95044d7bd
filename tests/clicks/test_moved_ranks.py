from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.evidence import Evidence
from flywheel.clicks.moved_ranks import CAUSED, Harvest, doubts, harvest
from flywheel.rehearsal.people import SILENT, People

QUERIES, K = 60, 10
ROOT = 1 / np.arange(1, K + 1)


def searched(seed: int, sessions: int = 20_000, *, moves: bool = True) -> Evidence:
    """Pages whose first result changed places with another by lot; one document in four is relevant."""
    rng = np.random.default_rng(seed)
    relevant = np.random.default_rng(99).random((QUERIES, K)) < 0.25
    query, order = rng.integers(0, QUERIES, sessions), np.tile(np.arange(K), (sessions, 1))
    if moves:
        rows, other = np.arange(sessions), rng.integers(0, K, sessions)
        order[rows, other], order[rows, 0] = 0, other
    hit = People("pbm", SILENT).react(np.take_along_axis(relevant[query], order, 1), rng).clicked
    pair = query[:, None] * K + order
    cells, which = np.unique(pair * K + np.arange(K), return_inverse=True)
    empty, count = np.zeros(len(cells), np.int32), QUERIES * K
    zeros = np.zeros(count)
    return Evidence(
        queries=tuple(f"q{i}" for i in range(QUERIES)), documents=tuple(f"d{i}" for i in range(K)),
        pair_query=(np.arange(count) // K).astype(np.int32), pair_document=(np.arange(count) % K).astype(np.int32),
        measured=zeros, satisfied=zeros, bounced=zeros,
        pair=(cells // K).astype(np.int32), rank=(cells % K + 1).astype(np.int32), above=empty,
        impressions=np.bincount(which.ravel()).astype(np.float64),
        clicks=np.bincount(which.ravel(), weights=hit.ravel().astype(np.float64)),
        set_start=np.zeros(2, np.int64), set_pairs=empty[:0],
    )  # fmt: skip


def test_random_swaps_recover_one_over_rank() -> None:
    """Documents moved by lot give examination within 0.03 of 1 / rank, without a word on what is relevant."""
    for seed in range(5):
        found = harvest(searched(seed, 100_000))
        assert found is not None
        assert found.examination == pytest.approx(ROOT, abs=0.03)


def test_the_standard_error_is_that_of_repeated_worlds() -> None:
    """Over 40 worlds the estimate scatters by its standard error at most, by half of it at least, about the truth."""
    found = [harvest(searched(seed, 4_000)) for seed in range(40)]
    estimates = np.array([one.examination for one in found if one is not None])
    errors = np.array([one.standard_error for one in found if one is not None]).mean(axis=0)
    assert len(estimates) == 40
    scatter = estimates.std(axis=0)[1:] / errors[1:]
    assert 0.5 < scatter.min() < scatter.max() < 1.2
    assert np.abs(estimates.mean(axis=0) - ROOT)[1:].max() < 3 * errors[1:].max() / np.sqrt(40)


def test_nothing_is_said_where_nothing_moved() -> None:
    """A ranking that stands still is no intervention; nor are a hundred pages."""
    assert harvest(searched(0, moves=False)) is None
    assert harvest(searched(0, 100)) is None


def told(seed: int, model: np.ndarray, sessions: int = 20_000) -> list[tuple[int, int]]:
    """The ranks in doubt in a world whose examination is 1 / rank."""
    found = harvest(searched(seed, sessions))
    assert found is not None
    return [(doubt.first, doubt.last) for doubt in doubts(model, found)]


def test_a_model_that_is_right_is_seldom_doubted() -> None:
    """In 60 worlds whose documents moved by lot, at most three doubt the examination that made the clicks."""
    assert sum(bool(told(seed, ROOT, 6_000)) for seed in range(60)) <= 3


def test_low_ranks_that_the_model_forgets_are_doubted() -> None:
    """Ranks 7 to 10 at a fiftieth instead of a tenth, and rank 2 at 0.9, are both named, and nothing else is."""
    forgotten = np.where(np.arange(1, K + 1) >= 7, 0.02, ROOT)
    assert sum(told(seed, forgotten, 100_000) == [(7, 10)] for seed in range(5)) >= 3
    steep = np.where(np.arange(1, K + 1) == 2, 0.9, ROOT)
    assert told(0, steep) == [(2, 2)]


def test_what_moves_that_clicks_caused_explain_is_no_doubt() -> None:
    """Low ranks that moved documents read 0.06 too high, as clicks that move documents make them, are let pass."""
    rank = np.arange(1, K + 1)
    error = np.append(0.0, np.full(K - 1, 0.005))
    caused = Harvest(np.where(rank >= 4, ROOT + CAUSED, ROOT), error, 100, 1_000.0)
    assert doubts(ROOT, caused) == ()
    lower = Harvest(np.where(rank >= 4, ROOT - CAUSED, ROOT), error, 100, 1_000.0)
    assert [(doubt.first, doubt.last) for doubt in doubts(ROOT, lower)] == [(4, 6), (7, 10)]
    assert "ranks 7 to 10" in str(doubts(ROOT, lower)[1])
    assert "unless clicks caused the moves" in str(doubts(ROOT, lower)[1])


def test_ranks_that_nothing_moved_to_are_not_doubted() -> None:
    """NaN, and a page shorter than the ranks that are checked, give no doubt."""
    unknown = Harvest(np.append(1.0, np.full(3, np.nan)), np.append(0.0, np.full(3, np.nan)), 9, 200.0)
    assert doubts(np.ones(10), unknown) == ()
