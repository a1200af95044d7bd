"""What judges a live experiment is fixed before its first page, by what the feedback before it supports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flywheel.events import Kind
from flywheel.experiments.metric import fixed
from flywheel.experiments.stages import live_stages
from flywheel.gates.judged import policy_of
from flywheel.learning.measure import Meter
from flywheel.settings.load import Config, parse
from flywheel.store import Store
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.training.runs import TrainingRun
from tests.experiments.live_world import BETTER, EQUAL, World, settings
from tests.experiments.shadow_world import insert
from tests.store.make import DAY, HOUR, NOW, batch, event, query, recomputed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home.duckdb", memory_gb=0.5, threads=1) as opened:
        yield opened


APART, ALIKE = ([0.6, 0.3, 0.1], [0.2, 0.3, 0.5]), ([0.3, 0.4, 0.3], [0.3, 0.4, 0.3])


def learned(store: Store, ends: tuple[list[float], list[float]], segment: str = "long document, short query") -> None:
    """A run whose click model found these ends, by a limit of 12 seconds for most dwells."""
    store.runs.start(TrainingRun("r", "manual", "adapter", "done", 0), "me")
    kept = {"run_id": ["r"], "scheme": ["rank"], "iterations": [9], "converged": [True], "gain": [9.0]}
    kept |= {"separable": [True], "warnings": pa.array([[]], pa.list_(pa.string()))}
    insert(store, "click_models", pa.table({**kept, "ends_relevant": [ends[0]], "ends_irrelevant": [ends[1]]}))
    limits = {"run_id": ["r", "r"], "segment": [segment, "few"], "bounce_ms": [2_000, 1], "satisfied_ms": [12_000, 99]}
    insert(store, "dwell_thresholds", pa.table({**limits, "dwells": [900, 9], "source": ["quarters", "none"]}))


def votes(store: Store, share: float) -> None:
    """200 pages with a click, of which a share has a thumb up."""
    pages = [query(f"q{n}", NOW - HOUR, client_key=f"c{n}") for n in range(200)]
    acts = [event(f"e{n}", query_id=f"q{n}") for n in range(200)]
    acts += [event(f"v{n}", kind=Kind.THUMBS_UP, query_id=f"q{n}") for n in range(int(200 * share))]
    store.feedback.ingest(batch(queries=pages, events=acts), "c", NOW)


def chosen(store: Store, config: Config | None = None) -> tuple[str, int]:
    told = fixed(store, config or Config(), NOW)["metric"]
    assert told["why"]
    return told["live_metric"], told["satisfied_ms"]


def test_where_dwell_goes_with_relevance_its_own_limit_satisfies(store: Store) -> None:
    """Not 30 seconds, but the limit that most of this installation's dwells have."""
    learned(store, APART)
    assert chosen(store) == ("satisfied_ctr", 12_000)


@pytest.mark.parametrize(("share", "metric"), [(0.2, "satisfied_ctr"), (0.02, "ctr"), (0.0, "ctr")])
def test_where_it_does_not_votes_satisfy_or_clicks_are_all_there_is(store: Store, share: float, metric: str) -> None:
    """One page in twenty with a vote, a cart or a purchase is enough, and then no dwell, however long, satisfies."""
    learned(store, ALIKE)
    votes(store, share)
    found, satisfied_ms = chosen(store)
    assert found == metric
    if metric == "satisfied_ctr":
        assert satisfied_ms > 7 * 24 * HOUR


def test_without_measured_dwells_none_satisfies(store: Store) -> None:
    """What people do next ends a click in training; as a limit for dwells that nobody sends it would satisfy nobody."""
    learned(store, APART, segment="long document, short query, until the next act")
    assert chosen(store)[0] == "ctr"


def test_what_ops_set_stands(store: Store) -> None:
    """A limit or a metric in the settings counts whatever the feedback says, and so does the default before any run."""
    assert chosen(store) == ("satisfied_ctr", 30_000)
    learned(store, ALIKE)
    assert chosen(store, parse({"signals": {"satisfied_ms": 7_000}})) == ("satisfied_ctr", 7_000)
    assert chosen(store, parse({"promotion": {"live_metric": "ctr"}}))[0] == "ctr"


def test_the_metric_of_a_live_experiment_never_changes(tmp_path: Path) -> None:
    """Begun on clicks, a split is decided by clicks, though settings and feedback would now have it otherwise."""
    with Store.open(tmp_path / "x.duckdb", memory_gb=0.5, threads=1) as store:
        world = World(store, settings("split"), {"v0": EQUAL, "v1": BETTER})
        by_clicks = {"live_metric": "ctr", "satisfied_ms": 5, "why": "a test"}
        world.director._judged_by = lambda from_ms: {"metric": by_clicks}
        world.queue("v1", "split")
        world.live_through(3)
        row = store.experiments.live() or store.experiments.all()[-1]
        assert row.progress["metric"] == by_clicks
        stage = live_stages(store.tally, world.config, policy_of(world.config))["split"]
        decision = stage.verdict(row, world.now_ms(), 0.1)
        assert "ctr" in decision.reasons[0] or "ctr" in str(decision.evidence["primary"])
        assert "satisfied_ctr" not in str(decision.evidence["primary"])
        other = Experiment("e", "v1", "v0", "split", 0)
        assert stage.policy_of(row).live_metric == "ctr"  # type: ignore[attr-defined]
        assert stage.policy_of(other).live_metric == "satisfied_ctr"  # type: ignore[attr-defined]


def test_the_trigger_goes_by_what_the_feedback_supports(store: Store) -> None:
    """A fall is measured in satisfied pages where something tells what satisfies, else in pages with a click."""
    votes(store, 0.02)

    def measured() -> float | None:
        meter = Meter(store, Config(), judged_sets=list, ranker=lambda _: list, paused=lambda: False)  # type: ignore[arg-type,return-value]
        return meter.measure(NOW).satisfied_ctr

    store.feedback.ingest(batch(queries=[query("last", NOW + 60_000)], start=999), "c", NOW + HOUR)
    assert measured() == pytest.approx(0.02, abs=0.005)
    learned(store, ALIKE)
    assert measured() == pytest.approx(1.0, abs=0.01)


OWN = {
    "promotion": {"stages": ["split"], "live_metric": "revenue", "min_days": 0, "min_users": 100, "ramp": [0.5]},
    "metrics": {
        "own": {
            "revenue": {"event": "purchase", "value": "total", "winsorise": 1},
            "first_click": {"event": "click", "value": "delay_s", "better": "lower"},
        },
        "guard": {"first_click": 0.05},
    },
}


@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "promote"), (2.0, "reject")])
def test_the_products_own_metrics_judge_and_guard_a_split(store: Store, slower: float, verdict: str) -> None:
    """More revenue a page promotes, unless people take longer to their first click than may be lost of it."""
    config = parse(OWN)
    rng, shown, done = np.random.default_rng(1), [], []
    for person in range(1_200):
        new, ts, common = person % 2, NOW + person * 1_000, {"query_id": f"q{person}", "client_key": f"p{person}"}
        shown.append(query(ts_ms=ts, experiment_id="e", arm=("champion", "challenger")[new], **common))
        wait = int(1_000 * rng.gamma(4.0, 2.0) * (slower if new else 1.0))
        spent = f'{{"total": {rng.gamma(2.0, 10.0) * (1.4 if new else 1.0)}}}'
        done.append(event(f"c{person}", ts + wait, **common))
        done.append(event(f"b{person}", ts + wait, Kind.PURCHASE, attributes=spent, **common))
    store.feedback.ingest(batch(queries=shown, events=done), "c", NOW)
    kept = fixed(store, config, 0)
    assert kept["metric"]["live_metric"] == "revenue"
    row = Experiment("e", "v1", "v0", "split", NOW, progress={"from_ms": 0, **kept})
    policy = policy_of(config)
    stage = live_stages(store.tally, parse({}), policy)["split"]
    stage.begin(row)
    stage.step(row, NOW + DAY)
    decision = stage.verdict(row, NOW + DAY, 0.05)
    assert decision.verdict.value == verdict
    assert ("revenue" if verdict == "promote" else "first_click") in decision.headline
    store.outcomes.record(stage.outcomes(row, decision, NOW))
    found = {outcome["metric"]: outcome for outcome in recomputed(store)}
    assert found["revenue"]["effect"] == pytest.approx(np.log(1.4), abs=0.1)
    assert {"revenue", "first_click", "ctr"} <= found.keys()
