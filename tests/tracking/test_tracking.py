"""Runs in MLflow and W&B: real clients on real stores of their own, and servers that are not there."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flywheel.settings.home import Home
from flywheel.settings.load import Tracking
from flywheel.store.training.runs import TrainingRun
from flywheel.tracking.mlflow import Tracker
from flywheel.tracking.wandb import Diary

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
DONE = TrainingRun("run-0001", "manual", "adapter", "done", 1_000, 5_000, "base", "v1", "run-0001", 7, 40, 60, REPORT)
FAILED = TrainingRun("run-0002", "drift", "full", "failed", 6_000, 7_000, "v1", "v2", error="OverBudget: too much")


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
    with caplog.at_level(logging.ERROR, "flywheel.tracking.mlflow"):
        tracker.record(dataclasses.replace(DONE, run_id="run-0003"))
    assert "run-0003 is not in MLflow" in caplog.text
    assert time.monotonic() - started < 60


def records(file: Path) -> Iterator[Any]:
    """What a run's own file holds: records of the library's format, in blocks of LevelDB's log that hold them whole."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at = file.read_bytes(), 7  # after the file's own mark
    assert len(data) < 32_768
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 6], "little")
        yield Record.FromString(data[at + 7 : at + 7 + size])
        at += 7 + size


def test_a_run_is_written_whole_for_weights_and_biases_once(home: Home) -> None:
    """Parameters, curves, final metrics, snapshot, version and end lie in the file that W&B's own command sends.

    A run that a crash left half written is written again.
    """
    (home.root / "wandb" / f"offline-run-20260101_000000-{DONE.run_id}").mkdir(parents=True)
    diary = Diary(Tracking(wandb_project="search"), home)
    for run in (DONE, FAILED, DONE):
        diary.record(run)
    files = sorted(home.root.glob("wandb/offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{DONE.run_id}.wandb", f"run-{FAILED.run_id}.wandb"]
    done, failed = (list(records(file)) for file in files)
    started = next(record.run for record in done if record.HasField("run"))
    assert (started.project, started.run_id, started.display_name) == ("search", DONE.run_id, "v1")
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config | {"seed": 7, "recipe.learning_rate": 5e-5, "flywheel.snapshot_id": "feed"} == config
    history = [
        {"".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in done
        if record.HasField("history")
    ]
    assert [(row["_step"], row["loss"]) for row in history] == [(10, 2.0), (20, 1.5)]
    assert (history[1]["candidate.all"], history[1]["pairs_per_second"]) == (0.7, 512.5)
    codes = [next(r.exit.exit_code for r in found if r.HasField("exit")) for found in (done, failed)]
    assert codes == [0, 1]


def test_a_run_that_weights_and_biases_does_not_take_is_not_lost(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody at the address, `record` returns in time and names the command that sends the run later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    diary = Diary(Tracking(wandb_project="search", wandb_send=True, timeout_seconds=3), home)
    with caplog.at_level(logging.ERROR, "flywheel.tracking.wandb"):
        diary.record(DONE)
    (file,) = home.root.glob("wandb/offline-run-*/*.wandb")
    assert f"wandb sync {file.parent}" in caplog.text
    assert "0" * 40 not in caplog.text
