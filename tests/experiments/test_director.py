"""Challengers on their way through the live stages: simulated people, the real store, the statistics that decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from flywheel.experiments.director import Director, problems, report
from flywheel.experiments.shadow import Side
from flywheel.experiments.shadow_stage import ShadowStage
from flywheel.settings.load import ConfigError
from flywheel.store import Store
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.evaluation.experiments import Experiment
from tests import defaults
from tests.experiments.live_world import BETTER, EQUAL, START, WORSE, Quality, World, settings
from tests.store.make import recomputed, rows

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A world of v0, the champion, and v1."""
    opened: list[Store] = []

    def build(challenger: Quality, *stages: str, **promotion: object) -> World:
        store = Store.open(tmp_path / f"{len(opened)}.duckdb", memory_gb=0.5, threads=1)
        opened.append(store)
        return World(store, settings(*stages, **promotion), {"v0": EQUAL, "v1": challenger})

    yield build
    for store in opened:
        store.close()


class SamePage:
    """Ranks every query alike: for the way of a challenger, not for its worth."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.zeros((len(texts), 1), np.float32)

    def search(self, vectors: np.ndarray, k: int) -> tuple[list[list[str]], np.ndarray]:
        return [["d1", "d2", "d3", "d4"][:k]] * len(vectors), np.zeros((len(vectors), k), np.float32)


def ended(world: World, name: str) -> Experiment:
    found = world.store.experiments.get(name)
    assert found is not None
    assert found.ended_at_ms is not None, f"{name} is {found.state}: {found.progress}"
    return found


def test_a_better_challenger_goes_through_every_stage_and_is_confirmed(make: Make) -> None:
    """Interleaving screens, the split ramps and decides at the budget's level, the watch confirms; one promotion."""
    world = make(BETTER, "offline", "interleaving", "split", ramp_hours=20)
    world.queue("v1", "interleaving")
    shares, roles = set(), []
    for _ in range(16):
        world.live_through(1)
        live = world.store.experiments.live()
        if live is not None:
            shares.add((live.stage, live.share))
        roles.append(world.store.models.aliases().get("challenger"))
        if live is None:
            break
    assert {("interleaving", 1.0), ("split", 0.1), ("split", 0.5), ("confirmation", 0.5)} <= shares
    assert (roles[0], roles[-1], world.told) == ("v1", None, ["v1"])
    promoted = world.store.decisions.get("run-1-split")
    assert promoted is not None
    assert (promoted.kind, promoted.alias, promoted.experiment_id) == ("promote", CHAMPION, "run-1-split")
    assert promoted.spent == pytest.approx(0.0225, abs=1e-4)
    assert [row.spent > 0 for row in world.store.decisions.all()] == [False, True], "a screen spends nothing"
    assert ended(world, "run-1-confirmation").verdict == "promote"
    for row in recomputed(world.store):
        told = next(item for item in world.store.outcomes.of(row["experiment_id"]) if item["metric"] == row["metric"])
        if told["effect"] is not None:
            assert (row["effect"], row["low"]) == (pytest.approx(told["effect"]), pytest.approx(told["low"]))
    assert rows(world.store, "SELECT count(*) FROM experiment_people") == [(0,)]


def test_a_worse_challenger_is_rejected_and_the_champion_stays(make: Make) -> None:
    """It never leaves the ramp for long, and pays for its test."""
    world = make(WORSE, "split", ramp=(0.5,))
    world.queue("v1", "split")
    world.live_through(8)
    assert ended(world, "run-1-split").verdict == "reject"
    assert "worse" in ended(world, "run-1-split").reasons[0]
    model = world.store.models.get("v1")
    assert model is not None
    assert (model.state, world.store.models.aliases()) == ("rejected", {CHAMPION: "v0"})
    assert world.told == []


@pytest.mark.parametrize(
    ("challenger", "reason"),
    [(Quality(0.7, 0.12), "clickbait"), (Quality(0.65, 0.4, latency_ms=90.0), "latency_ms")],
    ids=["clickbait", "slow"],
)
def test_what_people_do_not_want_is_rejected_for_its_reason(make: Make, challenger: Quality, reason: str) -> None:
    """Clicks without satisfaction, or a gain that costs time, are no promotion."""
    world = make(challenger, "split", ramp=(0.5,))
    world.queue("v1", "split")
    world.live_through(8)
    found = ended(world, "run-1-split")
    assert found.verdict == "reject"
    assert any(reason in line for line in found.reasons), found.reasons


def test_a_broken_split_is_void_and_wakes_somebody(make: Make) -> None:
    """A quarter of the challenger's people get lost: even a better one is not promoted, and status says why."""
    world = make(BETTER, "split", ramp=(0.5,))
    whole = world.assigned
    world.arm_of = lambda person, row: (
        None if person.endswith(("1", "2", "3")) and whole(person, row) == "challenger" else whole(person, row)
    )
    world.queue("v1", "split")
    world.live_through(6)
    assert ended(world, "run-1-split").verdict == "inconclusive"
    assert world.store.models.aliases() == {CHAMPION: "v0"}
    assert (report(world.store)["void"], "mismatch" in problems(world.store)["experiment"]) == (1, True)


def test_a_product_that_serves_itself_is_judged_by_its_tags(make: Make) -> None:
    """Unequal arms by model_version and by name, expected or not, promote a better challenger all the same."""
    world = make(BETTER, "observe", observe_share=0.2)
    world.arm_of = lambda person, row: "challenger" if hash_of(person) < 20 else "champion"
    world.queue("v1", "observe")
    world.live_through(8)
    found = ended(world, "run-1-observe")
    assert found.verdict == "promote", found.reasons
    assert world.told == ["v1"]


def hash_of(person: str) -> int:
    return int(person[1:]) * 7919 % 100


def test_people_in_both_arms_void_it(make: Make) -> None:
    """A product that draws the arm for each page anew has compared nothing."""
    world = make(BETTER, "observe")
    world.arm_of = lambda person, row: ["champion", "challenger"][int(world.rng.integers(2))]
    world.queue("v1", "observe")
    world.live_through(5)
    assert "both arms" in ended(world, "run-1-observe").reasons[0]
    assert world.store.models.aliases() == {CHAMPION: "v0"}


def test_an_equal_challenger_expires_and_pays(make: Make) -> None:
    """After max_days of event time it ends inconclusive, a candidate again."""
    world = make(EQUAL, "split", ramp=(0.5,), max_days=4)
    world.queue("v1", "split")
    world.live_through(8)
    found = ended(world, "run-1-split")
    assert (found.state, found.verdict) == ("expired", "inconclusive")
    decision = world.store.decisions.get("run-1-split")
    assert decision is not None
    assert decision.spent > 0.02


def test_a_long_silence_before_it_counts_for_nothing(make: Make) -> None:
    """The first event ever, or after months, ends no experiment that has just begun: its days start with its pages."""
    for silence in (0, 300):
        world = make(EQUAL, "split", ramp=(0.5,), max_days=4)
        if silence:
            world.live_through(1)
            world.day += silence
        world.queue("v1", "split")
        world.director.step()
        world.live_through(3)
        live = world.store.experiments.live()
        assert live is not None
        assert "goes on" in live.progress["look"]["reasons"][-1]


def test_nobody_searches_and_it_still_ends(make: Make) -> None:
    """Without traffic event time stands still; the clock gives up for it."""
    world = make(BETTER, "split", max_days=5)
    world.queue("v1", "split")
    world.live_through(1)
    world.day += 11
    world.director.step()
    assert "by the clock" in ended(world, "run-1-split").reasons[0]


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    """Closed and opened after each day, verdict and sums are those of one process."""
    found = []
    for restarts in (False, True):
        path = tmp_path / f"{restarts}.duckdb"
        store = Store.open(path, memory_gb=0.5, threads=1, watermark_minutes=0)
        world = World(store, settings("split", ramp=(0.5,)), {"v0": EQUAL, "v1": BETTER})
        world.queue("v1", "split")
        for _ in range(6):
            world.live_through(1)
            if restarts:
                store.close()
                store = world.store = Store.open(path, memory_gb=0.5, threads=1, watermark_minutes=0)
                world.director = world.make_director()
        row = store.decisions.get("run-1-split")
        assert row is not None
        found.append((row.kind, row.reasons, row.evidence["metrics"]["ctr"]["challenger"]))
        store.close()
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == pytest.approx(found[1][2])


def test_challengers_wait_in_order_and_one_is_live(make: Make) -> None:
    """The oldest goes first; whoever waited too long, or became champion by hand, is let go."""
    world = make(WORSE, "split", ramp=(0.5,), queue_days=20)
    for number in (1, 2, 3):
        version = f"v{number}"
        world.store.models.add(dataclasses.replace(world.store.models.get("v1"), version=version, state="candidate"))  # type: ignore[type-var]
        world.store.experiments.add(
            Experiment(f"run-{number}-split", version, "v0", "split", START + number, run_id=f"run-{number}")
        )
    world.director.step()
    assert [row.state for row in world.store.experiments.all()] == ["live", "queued", "queued"]
    world.store.decisions.decide(Decision("hand", "manual", "v2", "ops", START, previous="v0", alias=CHAMPION))
    world.director.step()
    world.director.step()
    assert [row.state for row in world.store.experiments.all()] == ["stopped", "stopped", "queued"]
    assert "v2 became the champion" in ended(world, "run-1-split").reasons[0]
    world.day += 21
    world.director.step()
    assert "in the queue" in ended(world, "run-3-split").reasons[0]
    assert world.store.models.aliases() == {CHAMPION: "v2"}


def regressed(make: Make, truth: Quality) -> World:
    """v1 was promoted over v0 by the offline gate, and is `truth`; the watch begins."""
    world = make(truth, "offline")
    world.store.decisions.decide(Decision("run-1-offline", "promote", "v1", "flywheel", START, alias=CHAMPION))
    world.store.experiments.add(Experiment("run-1-confirmation", "v1", "v0", "confirmation", START, run_id="run-1"))
    return world


def test_a_regression_is_rolled_back_by_itself(make: Make) -> None:
    """The watch over a promotion takes a worse model back: one decision, announced like any other, said in status."""
    world = regressed(make, WORSE)
    world.live_through(8)
    back = world.store.decisions.get("run-1-confirmation")
    assert back is not None
    assert (back.kind, back.version, back.previous, back.alias, back.actor) == (
        "rollback",
        "v0",
        "v1",
        CHAMPION,
        "flywheel",
    )
    assert (world.told, world.store.models.aliases()) == (["v0"], {CHAMPION: "v0"})
    assert back.evidence["alpha"] == world.config.promotion.rollback_alpha, "at its own level, not the budget's"
    assert (report(world.store)["rolled_back"], "taken back" in problems(world.store)["rollback"]) == (1, True)
    model = world.store.models.get("v1")
    assert model is not None
    assert model.state == "rejected"


def test_an_equal_champion_is_kept(make: Make) -> None:
    """A watch over an A/A ends after its days with the promotion standing."""
    world = regressed(make, EQUAL)
    world.config = settings("offline", holdback_days=5)
    world.director = world.make_director()
    world.live_through(8)
    assert ended(world, "run-1-confirmation").verdict == "inconclusive"
    assert (world.told, world.store.models.aliases()) == ([], {CHAMPION: "v1"})
    assert report(world.store) == {"queued": 0, "void": 0, "rolled_back": 0}


def test_pause_freezes_and_auto_false_waits(make: Make) -> None:
    """While paused nothing begins or ends; without auto a verdict of promote is written and nothing switched."""
    world = make(BETTER, "split", ramp=(0.5,), auto=False)
    world.queue("v1", "split")
    world.store.state.set("paused", True, START)
    world.live_through(1)
    assert world.store.experiments.live() is None
    world.store.state.set("paused", False, START)
    world.live_through(6)
    decision = world.store.decisions.get("run-1-split")
    assert decision is not None
    assert (decision.kind, decision.alias, world.told) == ("promote", None, [])
    assert "flywheel promote v1" in decision.reasons[-1]
    assert world.store.models.aliases() == {CHAMPION: "v0"}


def test_what_cannot_be_loaded_is_not_shown(make: Make) -> None:
    """A challenger whose files are gone is let go before anybody sees it, and the queue goes on."""
    world = make(BETTER, "split")

    def gone(version: str) -> None:
        if version == "v1":
            raise FileNotFoundError("models/v1 is gone")

    world.unready = gone
    world.director = world.make_director()
    world.queue("v1", "split")
    world.director.step()
    assert "models/v1 is gone" in ended(world, "run-1-split").reasons[0]
    assert world.store.models.aliases() == {CHAMPION: "v0"}


def test_the_shadow_passes_on_what_it_cannot_reject(make: Make) -> None:
    """It ranks the pages of people who never see it, and what it finds nothing against goes on to the split."""
    world = make(EQUAL, "split")
    world.config = settings("shadow", "split")
    policy = defaults.shadowing(pages=500, timed=0)
    shadow = ShadowStage(world.store, policy, lambda _: Side(SamePage(), SamePage()), seconds=lambda: 0.0)
    world.director = world.make_director(shadow=shadow)
    world.queue("v1", "shadow")
    seen = set()
    for _ in range(4):
        world.live_through(1)
        live = world.store.experiments.live()
        assert live is not None
        seen.add(live.stage)
    assert seen == {"shadow", "split"}
    assert "passed on" in ended(world, "run-1-shadow").reasons[0]
    assert rows(world.store, "SELECT count(*) FROM decisions") == [(1,)], "a screen that is passed decides nothing"


def test_a_stage_that_is_not_there_is_refused(make: Make) -> None:
    """Better no daemon than a gate that is asked for and not held."""
    world = make(EQUAL, "offline")
    missing = settings("shadow", "split").promotion
    with pytest.raises(ConfigError, match="shadow"):
        Director(world.store, missing, {}, None, ready=print, now_ms=world.now_ms)  # type: ignore[arg-type]
