"""The benchmark's click models click as their papers say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.click_habits import CLICKS, EXAMINATION

RELEVANT = np.zeros((40_000, 5), bool)
RELEVANT[:, 1] = True


@pytest.mark.parametrize("name", EXAMINATION)
def test_clicks_fall_with_rank_as_the_examination_curve_says(name: str) -> None:
    """Relative click rates of documents that are alike are the chance to look at their ranks."""
    rates = CLICKS[name](np.ones((40_000, 5), bool), np.random.default_rng(0)).mean(axis=0)
    assert rates / rates[0] == pytest.approx(EXAMINATION[name](np.arange(1.0, 6.0)), abs=0.03)


def test_who_stops_at_the_first_click_clicks_once() -> None:
    """The cascade of Craswell et al. never has two clicks on a page, and finds the relevant result below a skip."""
    clicked = CLICKS["first_click"](RELEVANT, np.random.default_rng(0))
    assert clicked.sum(axis=1).max() == 1
    assert clicked[:, 1].mean() == pytest.approx(0.9 * 0.9, abs=0.01)


def test_browsing_people_look_more_after_a_click() -> None:
    """In the user browsing model the result after a click is examined more often than after a skip."""
    clicked = CLICKS["browsing"](RELEVANT, np.random.default_rng(0))
    assert clicked[clicked[:, 1], 2].mean() > 1.2 * clicked[~clicked[:, 1], 2].mean()


def test_a_crowd_has_its_shares() -> None:
    """Three in ten pages with one random click: relevant clicks fall by that share."""
    pure, noisy = (CLICKS[name](RELEVANT, np.random.default_rng(0))[:, 1].mean() for name in ("pbm", "noise_30"))
    assert noisy == pytest.approx(0.7 * pure + 0.3 * 0.2, abs=0.01)
