"""People who keep one model for ever: who they are, what they see, and what the loop is said to have gained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.experiments.frozen import STAGE, Frozen, FrozenWatch, check, report
from flywheel.experiments.stages import CONFIRMATION
from flywheel.settings.load import Config, ConfigError
from flywheel.store import Store
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.evaluation.experiments import Experiment
from tests.experiments.live_world import BETTER, EQUAL, WORSE, Quality, World, settings
from tests.experiments.test_lineup import Loaded, goes_live, lineup, store

__all__ = ["store"]
Make = Callable[..., World]


def test_the_lineup_serves_them_whatever_is_tried(store: Store) -> None:
    """Beside each champion and experiment the frozen version keeps its people; a split's people are others."""
    loaded = Loaded()
    serving = lineup(store, loaded, Frozen("v0", 0.1))
    goes_live(store, "split")
    for champion in ("v0", "v1"):
        store.decisions.decide(Decision(f"to {champion}", "manual", champion, "ops", 3, alias=CHAMPION))
        live = serving.build()
        assert live.frozen is not None
        assert (live.version, live.frozen.ranker_of("champion").version) == (champion, "v0")
        assert live.frozen.ranker_of("challenger").version == champion
        assert not serving.stale(live)
    assert serving.stale(replace(live, frozen=None))


def test_an_index_of_its_own_is_kept_and_filled_first(store: Store) -> None:
    """Where the frozen version has another vector space, nobody gets it before its index is equal to the documents."""
    loaded = Loaded()
    serving = lineup(store, loaded, Frozen("v2", 0.1))
    assert serving.build().frozen is None
    assert serving.follow() is False
    assert loaded.stepped == ["own"]
    assert serving.stale(replace(serving.build(), frozen=None))
    assert serving.build().frozen is not None


def test_one_that_cannot_be_loaded_takes_nobody_down(store: Store) -> None:
    """The champion serves everybody, and that is not taken for what was wanted."""
    loaded = Loaded()
    loaded.gone.add("v1")
    serving = lineup(store, loaded, Frozen("v1", 0.1))
    live = serving.build()
    assert (live.version, live.frozen, serving.stale(live), serving.follow()) == ("v0", None, True, False)


def test_an_unknown_version_is_refused_with_the_fix(store: Store) -> None:
    """The error names the models that there are, and how to turn it off."""
    wanted = settings("offline", frozen_share=0.1, frozen_version="v9").promotion
    with pytest.raises(ConfigError, match=r"v9.*v0, v1, v2.*frozen_share = 0"):
        check(store, wanted)
    check(store, settings("offline", frozen_share=0.0, frozen_version="v9").promotion)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A world in which v1 has become the champion long after v0, which some people keep."""
    opened: list[Store] = []

    def build(champion: Quality) -> World:
        made = Store.open(tmp_path / f"{len(opened)}.duckdb", memory_gb=0.5, threads=1)
        opened.append(made)
        config = settings("offline", "split", frozen_share=0.25, frozen_version="v0")
        world = World(made, config, {"v0": EQUAL, "v1": champion})
        made.decisions.decide(Decision("p", "promote", "v1", "flywheel", 2, previous="v0", alias=CHAMPION))
        return world

    yield build
    for each in opened:
        each.close()


def _watched(world: World, days: int) -> FrozenWatch:
    """Days of searches as the lane serves them, with looks after each."""
    lane = Experiment("frozen-v0", "v1", "v0", CONFIRMATION, 0, share=0.25)
    watch = FrozenWatch(world.store, world.config, world.now_ms)
    for _ in range(days):
        world.search_for_a_day(lane)
        watch.step()
    return watch


@pytest.mark.parametrize(("quality", "said"), [(BETTER, "better"), (EQUAL, "inconclusive"), (WORSE, "worse")])
def test_what_the_loop_has_gained_is_told(make: Make, quality: Quality, said: str) -> None:
    """After four days the row says whether the champion is better than what the kept people have, by how much, with an
    interval that holds at any look; status says the same, and no experiment is in the way of the next challenger."""
    world = make(quality)
    watch = _watched(world, 4)
    (row,) = [row for row in world.store.outcomes.of("frozen-v0") if row["metric"] == "satisfied_ctr"]
    assert (row["stage"], row["verdict"]) == (STAGE, said)
    told = report(world.store, world.config.promotion)
    assert told is not None
    assert told["primary"]["effect"] == pytest.approx(row["relative_effect"])
    assert told["primary"]["low"] < (quality.satisfied / EQUAL.satisfied - 1) < told["primary"]["high"]
    assert watch.step() is False, "nothing new, nothing to look at"
    assert world.store.experiments.live() is None
    world.queue("v1", "split")
    assert [row.state for row in world.store.experiments.queued()] == ["queued"]


def test_a_restart_goes_on_where_it_was(make: Make) -> None:
    """Another process counts each page once, and none twice."""
    world = make(BETTER)
    _watched(world, 2)
    pages = world.store.tally.sums("frozen-v0").pages
    FrozenWatch(world.store, world.config, world.now_ms).step()
    assert world.store.tally.sums("frozen-v0").pages == pages > 0


def test_by_default_nobody_is_kept(store: Store) -> None:
    """Without the setting there is no lane, no row and no figure."""
    config = Config()
    assert FrozenWatch(store, config, lambda: 0).step() is False
    assert (store.experiments.all(), report(store, config.promotion)) == ([], None)
