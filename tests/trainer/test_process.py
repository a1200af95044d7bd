"""Real training processes: same seed, same weights; killed and resumed; refused with a reason."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.trainer.collection import snapshot
from trainer.launch import checkpoint_path, launch, read_progress, read_report
from trainer.recipe import Budget

BUDGET = Budget(threads=1)


def finish(folder: Path, out: Path) -> int:
    return launch(folder, out, BUDGET).wait(timeout=300)


def weights(out: Path) -> bytes:
    return (out / "query_0_Transformer" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    """kill -9 in the middle of training leaves no model; the same call again ends with the same weights as no kill."""
    folder = snapshot(tmp_path / "snapshot", steps=120, batch_size=64)
    whole, broken = tmp_path / "models" / "whole", tmp_path / "models" / "broken"
    process = launch(folder, broken, BUDGET)
    give_up = time.monotonic() + 240
    while not checkpoint_path(broken).exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoint_path(broken).exists()
    assert not broken.exists()
    assert read_report(broken) is None

    assert finish(folder, broken) == 0
    assert finish(folder, whole) == 0
    assert weights(broken) == weights(whole)
    report, progress = read_report(broken), read_progress(broken)
    assert report is not None
    assert report["error"] is None
    assert report["resumed_from"] > 0
    assert progress is not None
    assert progress["phase"] == "done"
    assert not checkpoint_path(broken).exists()


@pytest.mark.slow
def test_a_run_over_its_memory_budget_leaves_a_reason_and_no_model(tmp_path: Path) -> None:
    """Where the budget cannot hold the model, the run ends with exit code 1, names the setting, and writes nothing."""
    folder = snapshot(tmp_path / "snapshot", budget=Budget(memory_gb=0.3, threads=1))
    out = tmp_path / "models" / "v1"
    assert finish(folder, out) == 1
    report = read_report(out)
    assert report is not None
    assert "limits.train_memory_gb" in report["error"]
    assert not out.exists()
    assert not list(out.parent.glob(".v1*"))
