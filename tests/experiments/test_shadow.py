"""The shadow counts each page once, whatever interrupts it, and says what a challenger would earn, or why it cannot."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flywheel.experiments.director import Director
from flywheel.experiments.shadow import Shadow, Side
from flywheel.experiments.shadow_stage import ShadowStage, shadow_policy
from flywheel.experiments.stages import live_stages
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.settings.load import parse
from flywheel.store.evaluation import outcomes
from flywheel.store.evaluation import shadow as stored
from flywheel.store.evaluation.decisions import Decision as Row
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.store import Store
from flywheel.store.training.models import Model
from flywheel.store.training.runs import TrainingRun
from tests import defaults
from tests.experiments.shadow_world import DEPTH, LATER_MS, START_MS, Lists, World
from tests.store.make import recomputed

Opener = Callable[[], Store]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    stores: list[Store] = []

    def fresh() -> Store:
        stores.append(Store.open(tmp_path / f"{len(stores)}.duckdb", memory_gb=1, threads=1))
        return stores[-1]

    yield fresh
    for store in stores:
        store.close()


def sides(world: World) -> tuple[Side, Side]:
    ours, theirs = Lists(world.champion), Lists(world.challenger)
    return Side(ours, ours), Side(theirs, theirs)


def run(shadow: Shadow, world: World, until_ms: int = LATER_MS) -> int:
    steps, both = 0, sides(world)
    while shadow.step(*both, until_ms):
        steps += 1
    return steps


def judged(store: Store, world: World, pages: int, *, mixed: bool) -> GateDecision:
    world.fill(store, pages, mixed=mixed)
    world.learn(store)
    shadow = world.shadow(store)
    run(shadow, world)
    return shadow.verdict()


def test_every_estimate_is_near_the_truth_and_its_interval_holds_it(opened: Opener) -> None:
    """Where the log supports all three, none is biased and their intervals hold the true difference."""
    inside: dict[str, list[bool]] = {"doubly_robust": [], "snips": [], "click_model": []}
    missed: dict[str, list[float]] = {name: [] for name in inside}
    for seed in range(8):
        world = World(seed)
        found = judged(opened(), world, 4_000, mixed=True).evidence["estimates"]
        for name, held in inside.items():
            held.append(found[name]["low"] <= world.truth <= found[name]["high"])
            missed[name].append((found[name]["effect"] - world.truth) / found[name]["standard_error"])
    assert all(np.mean(held) >= 0.75 for held in inside.values()), inside
    assert all(abs(np.mean(z)) < 0.9 and np.std(z) < 1.7 for z in missed.values()), missed


def test_what_the_log_does_not_hold_is_refused(opened: Opener) -> None:
    """A few pages of the champion alone say little about the challenger's documents, and it says how little."""
    decision = judged(opened(), World(1), 600, mixed=False)
    found = decision.evidence["estimates"]
    assert [name for name in found if "effect" in found[name]] == []
    assert "covers" in found["click_model"]["inconclusive"]
    assert (decision.verdict, decision.final) == (Verdict.INCONCLUSIVE, True)


def test_a_worse_challenger_is_rejected_and_a_better_one_passes_on(opened: Opener) -> None:
    """With support the whole interval below the margin rejects; a gain never promotes here."""
    worse = judged(opened(), World(2, gain=-1.5), 8_000, mixed=True)
    assert worse.verdict is Verdict.REJECT
    assert "clearly worse" in worse.reasons[0]
    better = judged(opened(), World(2, gain=1.0), 8_000, mixed=True)
    assert (better.verdict, better.final, better.spent) == (Verdict.INCONCLUSIVE, True, 0.0)
    assert "passed on" in better.reasons[0]


class Killed(Exception):
    """What a kill looks like from inside."""


def test_pages_are_counted_once_whatever_interrupts(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of every second write and begun anew, the sums are those of a run that nothing disturbed."""
    plain, broken = opened(), opened()
    for store in (plain, broken):
        world = World(3)
        world.fill(store, 2_000)
        world.learn(store)
    run(world.shadow(plain), world)
    kills = itertools.cycle([True, False])

    def deadly(name: str) -> None:
        real = getattr(stored, name)

        def write(*arguments: object) -> object:
            done = real(*arguments)
            if next(kills):
                raise Killed
            return done

        monkeypatch.setattr(stored, name, write)

    deadly("_add")
    deadly("_ranking_rows")
    deaths = 0
    while True:
        try:
            run(world.shadow(broken), world)
            break
        except Killed:
            deaths += 1
    assert deaths > 3
    ours, theirs = (store.shadows.measured("e", "r") for store in (plain, broken))
    assert ours.pages.sum() == theirs.pages.sum() == 2_000
    assert ours.challenger == pytest.approx(theirs.challenger)
    assert ours.queries == theirs.queries


def test_a_query_is_ranked_once(opened: Opener) -> None:
    """Many pages of a query over many steps cost one ranking by either model, in batches no larger than the bound."""
    store, world = opened(), World(4)
    world.fill(store, 3_000)
    world.learn(store)
    shadow, lists = world.shadow(store, step_queries=7), Lists(world.challenger)
    champion = Lists(world.champion)
    while shadow.step(Side(champion, champion), Side(lists, lists), LATER_MS):
        assert len(set(lists.asked)) == len(lists.asked)
    assert len(lists.asked) == store.shadows.measured("e", "r").queries


def test_only_closed_batches_after_the_training_count(opened: Opener) -> None:
    """Pages that the challenger may have learned from, and pages whose feedback may still come, are left out."""
    store, world = opened(), World(5)
    world.fill(store, 2_000)
    world.learn(store)
    shadow = world.shadow(store)
    middle = START_MS + 2 * 86_400_000
    store.shadows.begin("late", "r", middle)
    run(shadow, world, until_ms=middle)
    ours = store.shadows.progress("e")
    assert ours is not None
    assert ours.last_ms is not None
    assert 0 < ours.pages < 2_000
    assert ours.last_ms <= middle
    run(Shadow(store.shadows, "late", shadow.policy, lambda: 0.0), world)
    late = store.shadows.progress("late")
    assert late is not None
    assert late.first_ms is not None
    assert late.first_ms > middle
    whole = store.sql.query(f"select count(*) as n from queries where ts > epoch_ms({middle})")["n"][0].as_py()
    assert late.pages == whole


def test_one_clock_that_runs_ahead_does_not_end_it(opened: Opener) -> None:
    """A page dated thirty years ahead counts for the day on which it came: the shadow waits for its pages."""
    store, world = opened(), World(5)
    world.fill(store, 2_000)
    world.learn(store)
    with store.database.write() as con:
        con.execute("UPDATE queries SET ts = ts + INTERVAL 30 YEAR WHERE query_id = 'p10'")
    shadow = world.shadow(store, pages=1_500, days=7.0, step_pages=100)
    run(shadow, world, until_ms=START_MS + 2 * 86_400_000)
    progress = store.shadows.progress("e")
    assert progress is not None
    assert progress.last_ms is not None
    assert progress.last_ms <= START_MS + 2 * 86_400_000
    assert not shadow.done()


def test_a_slow_challenger_is_rejected(opened: Opener) -> None:
    """Queries are timed alone, by turns, and a rise beyond the guardrail rejects."""
    store, world = opened(), World(6)
    world.fill(store, 1_000)
    world.learn(store)
    clock = [0.0]

    class Slow(Lists):
        def encode_queries(self, texts: list[str]) -> np.ndarray:
            clock[0] += 0.030 if self.order is world.challenger else 0.010
            return super().encode_queries(texts)

    shadow = Shadow(store.shadows, "e", world.shadow(store, timed=20, step_timed=20).policy, lambda: clock[0])
    ours, theirs = Slow(world.champion), Slow(world.challenger)
    while shadow.step(Side(ours, ours), Side(theirs, theirs), LATER_MS):
        pass
    decision = shadow.verdict()
    assert decision.verdict is Verdict.REJECT
    assert "10.0 to 30.0 ms over 20 queries" in decision.reasons[0]


def test_the_rows_hold_what_the_verdict_rests_on(opened: Opener) -> None:
    """Effect and interval of each estimator follow from the sums in `ab_outcomes`; a refusal has no effect but why."""
    store = opened()
    decision = judged(store, World(7), 4_000, mixed=True)
    store.outcomes.record(outcomes.shadow("e", decision.evidence, decision.reasons, 0))
    again = {row["part"]: row for row in recomputed(store)}
    found = store.outcomes.of("e")
    assert {row["part"] for row in found} == {"click_model", "snips", "doubly_robust"}
    for row in found:
        for name in ("effect", "low", "high"):
            assert again[row["part"]][name] == pytest.approx(row[name], abs=1e-9), row["part"]
        assert row["coverage"] > 0.8
    few = opened()
    refused = judged(few, World(7), 400, mixed=False)
    few.outcomes.record(outcomes.shadow("e", refused.evidence, refused.reasons, 0))
    for row in few.outcomes.of("e"):
        assert (row["effect"], row["verdict"]) == (None, "inconclusive")
        assert row["reasons"][0]


def test_a_shadow_that_has_seen_too_little_goes_on(opened: Opener) -> None:
    """Before its pages, or its days, there is no verdict: it looks once."""
    store, world = opened(), World(8)
    world.fill(store, 500)
    world.learn(store)
    shadow = world.shadow(store, pages=600, days=30.0)
    run(shadow, world)
    assert not shadow.verdict().final
    assert world.shadow(store, pages=600, days=1.0).verdict().final


def test_bots_and_busy_people_are_capped(opened: Opener) -> None:
    """Whom the run excluded counts for nothing, and nobody carries more than the cap of a query's pages in a window."""
    store, world = opened(), World(9)
    world.fill(store, 2_000)
    world.learn(store)
    with store.database.write() as con:
        con.execute("INSERT INTO excluded_users SELECT 'r', user_key, 'bot', 1, 1, 1 FROM queries LIMIT 1")
        expected = con.execute(
            "SELECT sum(least(n, 2)) FROM (SELECT count(*) AS n FROM queries WHERE user_key NOT IN "
            "(SELECT user_key FROM excluded_users) GROUP BY user_key, query_key)"
        ).fetchall()[0][0]
    reading = defaults.reading(cap=2, depth=DEPTH)
    shadow = world.shadow(store, reading=reading, step_pages=10_000)
    run(shadow, world)
    assert store.shadows.measured("e", "r").pages.sum() == expected


@pytest.mark.parametrize(("gain", "passes"), [(1.0, True), (-1.5, False)])
def test_a_director_moves_a_challenger_through_its_shadow(tmp_path: Path, gain: float, passes: bool) -> None:
    """What passes goes on to the split, with its rows of outcomes; what is clearly worse is rejected there and then."""
    world, config = World(2, gain=gain), parse({"promotion": {"stages": ["offline", "shadow", "split"]}})
    with Store.open(tmp_path / "x.duckdb", memory_gb=1, threads=1) as store:
        world.fill(store, 8_000, mixed=True)
        world.learn(store)
        for version in ("v0", "v1"):
            store.models.add(Model(version, "adapter", f"/{version}", "space", 0))
        store.decisions.decide(Row("initial", "initial", "v0", "test", 0, alias="champion"))
        store.runs.start(TrainingRun("r", "manual", "adapter", "done", 0, until_ms=START_MS), "me")
        store.experiments.add(Experiment("r-shadow", "v1", "v0", "shadow", LATER_MS, run_id="r"))
        with store.database.write() as con:
            con.execute("INSERT INTO ingest_totals VALUES ('max_ts_ms', ?)", [LATER_MS])
    with Store.open(tmp_path / "x.duckdb", memory_gb=1, threads=1) as store:
        both = dict(zip(("v0", "v1"), sides(world), strict=True))
        reading = defaults.reading(depth=DEPTH, cap=10**6)
        small = dataclasses.replace(shadow_policy(config), timed=0, reading=reading, pages=7_900)
        stage = ShadowStage(store, small, both.__getitem__, seconds=lambda: 0.0)
        stages = live_stages(store.tally, config, defaults.policy()) | {"shadow": stage}
        director = Director(
            store, config.promotion, stages, defaults.policy(), ready=lambda _: None, now_ms=lambda: LATER_MS
        )
        for _ in range(4):
            director.step()
        ended, following = store.experiments.get("r-shadow"), store.experiments.get("r-split")
        assert ended is not None
        assert ended.verdict == ("inconclusive" if passes else "reject"), ended.reasons
        assert (following is not None) == passes
        assert {row["part"] for row in store.outcomes.of("r-shadow")} == {"click_model", "snips", "doubly_robust"}
        assert store.models.aliases()["champion"] == "v0"
        assert getattr(store.models.get("v1"), "state", "") == ("challenger" if passes else "rejected")
