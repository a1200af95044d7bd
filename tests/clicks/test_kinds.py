"""Two kinds of documents, or a continuum: which of two worlds the clicks came from."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.kinds import CLEAR, advantage

PAIRS = 2_000
EXAMINED = 1 / np.arange(1, 11)


def told(attraction: np.ndarray, seed: int, pages: int) -> float:
    """The advantage of two kinds for clicks on documents with these attractions, at a rank each, by the true rates."""
    rng = np.random.default_rng([seed, 1])
    rank = np.arange(PAIRS) % 10
    rate = np.minimum(attraction * EXAMINED[rank], 0.95)
    clicks = rng.binomial(pages, rate).astype(float)
    relevant, irrelevant = 0.9 * EXAMINED[rank], 0.1 * EXAMINED[rank]
    share = 0.2
    each = np.logaddexp(
        np.log(share) + clicks * np.log(relevant) + (pages - clicks) * np.log1p(-relevant),
        np.log1p(-share) + clicks * np.log(irrelevant) + (pages - clicks) * np.log1p(-irrelevant),
    )
    pair = np.arange(PAIRS, dtype=np.int32)
    columns = np.ones((PAIRS, 1))
    return advantage(each, columns, pair, clicks, pages - clicks, (relevant, irrelevant))


@pytest.mark.parametrize("seed", range(5))
def test_each_world_is_told_from_the_other(seed: int) -> None:
    """Relevant or not wins clearly where it is so, log-normal attractions where they are so."""
    rng = np.random.default_rng(seed)
    assert told(np.where(rng.random(PAIRS) < 0.2, 0.9, 0.1), seed, 20) > CLEAR
    assert told(np.exp(rng.normal(np.log(0.2), 0.7, PAIRS)), seed, 20) < -CLEAR


@pytest.mark.parametrize("seed", range(5))
def test_pairs_that_were_shown_once_are_no_two_kinds_by_their_number(seed: int) -> None:
    """Where no pair was shown twice, nothing tells a continuum from two kinds, and then two kinds are not claimed."""
    rng = np.random.default_rng(seed)
    assert told(np.exp(rng.normal(np.log(0.2), 0.7, PAIRS)), seed, 1) <= CLEAR


def test_of_many_pairs_a_part_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the pairs tells about a tenth of the advantage, on the same side."""
    attraction = np.where(np.random.default_rng(0).random(PAIRS) < 0.2, 0.9, 0.1)
    whole = told(attraction, 0, 20)
    monkeypatch.setattr("flywheel.clicks.kinds.MOST_PAIRS", PAIRS // 10)
    assert 0.03 * whole < told(attraction, 0, 20) < 0.3 * whole
