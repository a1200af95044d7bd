"""Measurements speak of one moment: a run that ends meanwhile is noticed before anything follows from them."""

from __future__ import annotations

from pathlib import Path

from flywheel.learning.measure import Meter
from flywheel.settings.load import Config
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

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
