"""Measurements speak of one moment: a run that ends meanwhile is noticed before anything follows from them."""

from __future__ import annotations

from pathlib import Path

from flywheel.gates.judged import policy_of
from flywheel.gates.sentences import live_could, rounded
from flywheel.learning.measure import Meter, live_outlook
from flywheel.settings.load import Config
from flywheel.stats.power import preferring_users
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun
from tests.store.make import batch, event, query

NOW = 1_770_000_000_000


def test_a_run_that_ended_meanwhile_overtakes_the_measurements(tmp_path: Path) -> None:
    """What was measured before a run ended knows nothing of its cooldown, so nothing is started by it."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        meter = Meter(store, Config(), judged_sets=list, ranker=lambda _: list, paused=lambda: False)
        store.runs.start(TrainingRun("r1", "drift", "adapter", "started", NOW - 60_000), owner="me")
        measured = meter.measure(NOW)
        assert (measured.running, meter.overtaken(measured)) == (True, False)
        store.runs.finish("r1", "refused", NOW)
        assert meter.overtaken(measured)
        assert not meter.overtaken(meter.measure(NOW))


def test_the_outlook_names_the_live_stage_that_traffic_allows(tmp_path: Path) -> None:
    """With 40 people a week no stage can decide in time, and the weeks are those that the needed people take."""
    config = Config()
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        assert "too few people" in live_outlook(store, config, 0.02)
        pages = [query(f"q{number}", client_key=f"c{number % 40}") for number in range(120)]
        clicks = [event(f"e{number}", query_id=f"q{number}") for number in range(120) if number % 3 or number < 9]
        store.feedback.ingest(batch(queries=pages, events=clicks), "c", NOW)
        told = live_outlook(store, config, 0.02)
    policy = policy_of(config)
    people = preferring_users(policy.expected_preference, alpha=0.02, expected=policy.expected_preference)
    assert told.startswith("no live stage could decide within promotion.max_days (28): at 40 people a week")
    assert f"interleaving needs about {rounded(people)} people" in told
    assert f"{rounded(people / 40)} weeks" in told


def test_the_quickest_live_stage_is_named_first() -> None:
    """Where a stage ends within `promotion.max_days`, the sentence opens with the quickest one."""
    stages = [
        {"stage": "interleaving", "effect": 0.05, "people": 2_000, "weeks": 1.5},
        {"stage": "split", "effect": 0.03, "people": 40_000, "weeks": 9.0},
    ]
    told = live_could(stages, 1_400, 28)
    assert told.startswith("interleaving could decide instead")
    assert "split needs about 40,000 people for a gain of 3.0 %, 9 weeks" in told
