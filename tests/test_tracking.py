"""Runs in MLflow: a real client on a real store of its own, and a server that is not there."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flywheel.config import Tracking
from flywheel.home import Home
from flywheel.store.runs import Run
from flywheel.tracking import Tracker

REPORT = {
    "steps": 20,
    "stopped": "all steps done",
    "pairs_per_second": 512.5,
    "dev": {
        "champion": {"all": 0.5, "seen": 0.6, "unseen": None},
        "candidate": {"all": 0.7, "seen": 0.7, "unseen": None},
    },
    "history": [
        {"step": 10, "loss": 2.0, "all": 0.6, "seen": 0.6, "unseen": None},
        {"step": 20, "loss": 1.5, "all": 0.7, "seen": 0.7, "unseen": None},
    ],
}
DONE = Run("run-0001", "manual", "adapter", "done", 1_000, 5_000, "base", "v1", "run-0001", 7, 40, 60, REPORT)
FAILED = Run("run-0002", "drift", "full", "failed", 6_000, 7_000, "v1", "v2", error="OverBudget: too much")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.init()
    folder = home.snapshots / DONE.run_id
    folder.mkdir(parents=True)
    manifest = {"snapshot_id": "feed", "recipe": {"learning_rate": 5e-5, "matryoshka": []}, "budget": {"threads": 1}}
    (folder / "snapshot.json").write_text(json.dumps(manifest), "utf-8")
    return home


def test_a_run_arrives_whole_and_once(home: Home) -> None:
    """Parameters, curves, final metrics, data snapshot and version are there; a second copy is not made."""
    tracker = Tracker(Tracking(enabled=True), home)
    for run in (DONE, FAILED, DONE):
        tracker.record(run)
    client = MlflowClient(tracking_uri=f"sqlite:///{home.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("flywheel")
    assert experiment is not None
    failed, done = client.search_runs([experiment.experiment_id])
    assert (done.info.status, done.info.start_time, done.info.end_time) == ("FINISHED", 1_000, 5_000)
    assert done.data.params | {"seed": "7", "recipe.learning_rate": "5e-05", "pairs_new": "40"} == done.data.params
    tags = {"flywheel.version": "v1", "flywheel.snapshot_id": "feed", "flywheel.parent": "base"}
    assert done.data.tags | tags == done.data.tags
    assert done.data.metrics["candidate.all"] == 0.7
    assert done.data.metrics["pairs_per_second"] == 512.5
    curve = client.get_metric_history(done.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(10, 2.0), (20, 1.5)]
    assert (failed.info.status, failed.data.tags["flywheel.error"]) == ("FAILED", "OverBudget: too much")


def test_a_server_that_is_gone_costs_a_line_in_the_log(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """With nobody at the address, `record` returns soon, says so, and raises nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tracker = Tracker(Tracking(enabled=True, uri=f"http://127.0.0.1:{port}", timeout_seconds=1), home)
    started = time.monotonic()
    with caplog.at_level(logging.ERROR, "flywheel.tracking"):
        tracker.record(dataclasses.replace(DONE, run_id="run-0003"))
    assert "run-0003 is not in MLflow" in caplog.text
    assert time.monotonic() - started < 60
