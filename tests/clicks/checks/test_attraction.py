from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom

from flywheel.clicks.checks.attraction import _shape, fit_attraction, order_by_clicks
from flywheel.clicks.pages import ClickLog
from tests.clicks.logged import Logged, logged

EXAMINATION = 0.9 / np.arange(1.0, 7.0)


@pytest.fixture(scope="module")
def world() -> Logged:
    """Attractions that vary; below a click people look half as often."""
    rng = np.random.default_rng(0)
    return logged(rng.beta(1.0, 4.0, (25, 8)), EXAMINATION, seed=3, pages=12_000, after_click=0.5)


def test_attraction_is_found_up_to_scale(world: Logged) -> None:
    """With many pages the fitted attractions are the true ones over their mean."""
    model, truth = fit_attraction(world.log), world.of_pairs()
    slope = float(model.attraction @ truth / (truth @ truth))
    assert np.corrcoef(model.attraction, truth)[0, 1] > 0.97
    # a pair has about 25 clicks, so that chance alone moves an attraction of 1 by 0.2
    assert np.abs(model.attraction - slope * truth).mean() < 0.16


def test_examination_is_found_up_to_scale(world: Logged) -> None:
    """The chance to look falls with the rank as it was made to, and is halved below a click."""
    table = fit_attraction(world.log).examination
    assert table[:, 0] / table[0, 0] == pytest.approx(EXAMINATION / EXAMINATION[0], rel=0.12)
    assert table[1:4, 1] / table[1:4, 0] == pytest.approx(np.full(3, 0.5), rel=0.25)


def test_a_few_impressions_without_clicks_move_little(world: Logged) -> None:
    """On a fortieth of the pages attractions are nearer to the truth than clicks over expected clicks."""
    few = world.log.only(np.arange(len(world.log.query)) % 40 == 0)
    model, truth = fit_attraction(few), world.of_pairs()
    counts = few.counts()
    seen = counts.impressions > 0
    assert model.attraction[seen & (counts.clicks == 0)].min() > 0.1
    relative = truth / truth[seen].mean()
    ours, raw = (((found - relative)[seen] ** 2).mean() for found in (model.attraction, counts.coec))
    assert ours < 0.7 * raw


def test_the_shape_is_that_of_the_negative_binomial() -> None:
    """Gamma-Poisson counts give back their shape, at the same point of the grid as scipy's own likelihood."""
    rng = np.random.default_rng(5)
    expected = rng.uniform(0.5, 5.0, 20_000)
    clicks = rng.poisson(expected * rng.gamma(2.0, 0.5, len(expected))).astype(np.float64)
    assert _shape(clicks, expected) == pytest.approx(2.0, rel=0.2)
    grid = np.geomspace(0.3, 30.0, 15)
    told = [nbinom.logpmf(clicks, a, a / (a + expected)).sum() for a in grid]
    assert _shape(clicks, expected) == pytest.approx(grid[int(np.argmax(told))])


def test_rates_are_chances_given_the_clicks_above(world: Logged) -> None:
    """They add up to the clicks that there were, and a place that holds nothing has none."""
    model = fit_attraction(world.log)
    assert model.rates(world.log).sum() == pytest.approx(world.log.clicked.sum(), rel=0.02)
    narrow = ClickLog.of([])
    assert narrow.pair.shape == (0, 0)


def test_among_equals_clicks_decide_the_order(world: Logged) -> None:
    """At one exposure and rank more clicks stand higher; more exposure without a click stands lower."""
    model, counts = fit_attraction(world.log), world.log.counts()
    score = order_by_clicks(world.log, np.ones(25))
    plain = np.log1p(counts.clicks) - 0.5 * np.log(counts.impressions) - np.log(counts.mean_rank)
    assert score == pytest.approx(plain)
    lively = order_by_clicks(world.log, model.liveliness)
    assert (lively - score) == pytest.approx(0.25 * np.log(model.liveliness)[world.log.pair_query])
