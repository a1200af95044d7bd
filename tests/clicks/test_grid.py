"""People look at a grid otherwise than at a list, and both kinds of pages are read for what they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flywheel.clicks import model as clicks
from flywheel.clicks.checks.agreement import agreement
from flywheel.clicks.examination import MAX_RANK
from flywheel.clicks.moved_ranks import harvest
from flywheel.clicks.pages import ClickLog, ShownPage
from tests import defaults
from tests.clicks.test_model import K, World, evidence

LOOKED_AT = 0.6


def test_a_grid_is_examined_by_its_own_ranks() -> None:
    """Half of the queries are lists, examined as 1 / rank, half are grids, all places alike: both curves come out."""
    world, rng = World(), np.random.default_rng(1)
    query = rng.integers(0, len(world.relevant), 40_000)
    as_grid = query >= len(world.relevant) // 2
    looked = np.where(as_grid[:, None], LOOKED_AT, 1 / np.arange(1, K + 1))
    clicked = rng.random((len(query), K)) < looked * np.where(world.relevant[query], 0.9, 0.1)
    found = evidence(world.documents, query, clicked, np.zeros_like(clicked, dtype=np.int64))
    found = dataclasses.replace(found, grid=found.pair_query[found.pair] >= len(world.relevant) // 2)
    model = clicks.fit(found, world.features(found), defaults.options())
    lists, grids = model.curve.irrelevant[:K, 0], model.curve.irrelevant[MAX_RANK : MAX_RANK + K, 0]
    assert lists == pytest.approx(0.1 / np.arange(1, K + 1), abs=0.01)
    assert grids == pytest.approx(np.full(K, 0.1 * LOOKED_AT), abs=0.015)
    mixed = clicks.fit(dataclasses.replace(found, grid=None), world.features(found), defaults.options())
    truth, at_the_bottom = world.truth(found), found.mean_rank() > 5

    def missed(model: clicks.ClickModel) -> float:
        return float((model.posterior[truth & at_the_bottom] < 0.5).mean())

    assert missed(model) < missed(mixed), "else telling the layouts apart would be worth nothing"
    assert harvest(dataclasses.replace(found, grid=np.ones(len(found.rank), np.bool_))) is None


def test_browsing_that_differs_by_layout_is_no_agreement() -> None:
    """People who see the same list as a list or as a grid exchange their clicks only with their own kind."""
    rng, pages = np.random.default_rng(2), []
    for number in range(600):
        grid = number % 2 == 1
        # the order hangs on the layout, and so does how people browse: no document matters
        names = ["a", "b", "c", "d"] if grid else ["d", "c", "b", "a"]
        if rng.random() < 0.3:
            names = list(rng.permutation(names))
        rate = np.array([0.1, 0.2, 0.4, 0.7]) if grid else np.array([0.7, 0.4, 0.2, 0.1])
        clicked = {name for name, did in zip(names, rng.random(4) < rate, strict=True) if did}
        pages.append(ShownPage("q", f"p{number}", 1, names, clicked, grid=grid))
    blind = ClickLog.of([dataclasses.replace(page, grid=False) for page in pages])
    told, untold = agreement(ClickLog.of(pages), rng), agreement(blind, rng)
    assert not told.holds
    assert untold.z > 10, "else this would not be the trap that it is"
