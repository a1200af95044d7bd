"""Real training processes: same seed, same weights; killed and resumed; refused with a reason."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import defaults
from tests.trainer.collection import snapshot
from trainer.data.recipe import Tier
from trainer.process.launch import checkpoint_path, launch, read_progress, read_report

BUDGET = defaults.training(threads=1)


def finish(folder: Path, out: Path) -> int:
    return launch(folder, out, BUDGET).wait(timeout=300)


def weights(out: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.safetensors")}
    assert found
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "recipe"), [("query_tower", {}), ("query_tower", {"lora_rank": 4}), ("full", {})])
def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(
    tier: Tier, recipe: dict[str, object], tmp_path: Path
) -> None:
    """kill -9 in the middle of training leaves no model; the same call again ends with the same weights as no kill."""
    steps = {"full": 60}.get(tier, 120)
    folder = snapshot(tmp_path / "snapshot", tier=tier, **{"steps": steps, "batch_size": 64, **recipe})
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
    folder = snapshot(tmp_path / "snapshot", budget=defaults.training(memory_gb=0.3, threads=1))
    out = tmp_path / "models" / "v1"
    assert finish(folder, out) == 1
    report = read_report(out)
    assert report is not None
    assert "limits.train_memory_gb" in report["error"]
    assert not out.exists()
    assert not list(out.parent.glob(".v1*"))


@pytest.mark.slow
def test_a_run_out_of_time_keeps_what_it_has(tmp_path: Path) -> None:
    """The time budget ends training early, with room to merge, score and save; the report says what stopped it."""
    budget = defaults.training(threads=1, minutes=0.5)
    folder = snapshot(tmp_path / "snapshot", steps=20_000, batch_size=64, layers="all", budget=budget)
    out = tmp_path / "models" / "v1"
    assert launch(folder, out, budget).wait(timeout=600) == 0
    report = read_report(out)
    assert report is not None
    assert report["stopped"] == "time budget"
    assert 0 < report["steps"] < 20_000
    assert (out / "flywheel.json").exists()


@pytest.mark.slow
def test_a_run_keeps_to_its_threads(tmp_path: Path) -> None:
    """With one thread allowed, a training process burns no more processor time than one thread can."""
    folder, out = snapshot(tmp_path / "snapshot", steps=120, batch_size=64, layers="all"), tmp_path / "models" / "v1"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    assert finish(folder, out) == 0
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 1.15 * seconds
    report = read_report(out)
    assert report is not None
    assert report["threads"] == 1


def test_a_run_is_not_charged_for_the_memory_of_its_starter() -> None:
    """Started by a process that holds 1.5 GB, a trainer that holds nothing yet is far below that."""
    held = np.ones(1_500_000_000, np.uint8)
    code = "from trainer.process.run import peak_memory_gb; print(peak_memory_gb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(held)
    assert 0.05 < float(done.stdout) < 1.2
