from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.clicks.ends import Ends
from tests.clicks.test_model import World

FOUND = World(queries=40).clicked("pbm", 2000, 0)


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
