from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

ROW: dict[str, Any] = {
    "reading": "clicks", "sentence": "they agree", "agreement_z": 4.0, "agreement_p": 0.001, "telling_clicks": 9,
    "telling_queries": 3, "opinion_z": None, "opinion_p": None, "clear": -2.0, "asked": 0.95, "promised": None,
    "promised_positives": 0, "positives": 7, "judged_pairs": 0, "judged_queries": 0, "pairs_needed": 328,
    "verdict": "unverified",
}  # fmt: skip


def test_the_latest_runs_check_is_kept_once(tmp_path: Path) -> None:
    """A run that is repeated replaces its row, and the latest run's row is what is told."""
    with Store.open(tmp_path / "f.duckdb", memory_gb=0.5) as store:
        assert store.checks.latest() is None
        for number in (1, 2):
            run = TrainingRun(f"run-{number}", "manual", "query_tower", "started", number, parent="base", version="v1")
            store.runs.start(run, "test")
            store.checks.write(run.run_id, ROW | {"positives": number})
            store.checks.write(run.run_id, ROW | {"positives": 10 * number})
            store.runs.finish(run.run_id, "refused", number)
        found = store.checks.latest()
    assert found is not None
    assert (found["run_id"], found["positives"], found["promised"]) == ("run-2", 20, None)
