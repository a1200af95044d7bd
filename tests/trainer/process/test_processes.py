"""Several real processes that train one model: the step of one, the end of all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.origin import resolve_base_model
from tests import defaults
from tests.trainer.collection import snapshot
from trainer.process.launch import checkpoint_path, launch, read_report


def still(folder: Path) -> str:
    """The base model without dropout, which every process would draw for itself."""
    shutil.copytree(resolve_base_model("auto"), folder)
    config = folder / "config.json"
    known = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(known | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}), "utf-8")
    return str(folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True).state_dict()


def others_of(process: subprocess.Popen[bytes], out: Path) -> list[int]:
    """The processes that it has started for this run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words and b"--rank" in words and int(folder.name) != process.pid:
            found.append(int(folder.name))
    return found


def training(process: subprocess.Popen[bytes], out: Path) -> int:
    """The second process, once they have taken steps together."""
    give_up = time.monotonic() + 240
    while not checkpoint_path(out).exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    (other,) = others_of(process, out)
    return other


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    """With batches that do not divide evenly, the weights are those of one process but for the order of sums."""
    recipe = {"steps": 4, "batch_size": 15, "hard_negatives": 1, "bf16": "off", "champion": still(tmp_path / "base")}
    found = []
    for count in (1, 2):
        budget = defaults.training(threads=2, processes=count)
        folder = snapshot(tmp_path / f"s{count}", tier="full", budget=budget, **recipe)
        assert launch(folder, tmp_path / f"m{count}", budget).wait(timeout=600) == 0, read_report(
            tmp_path / f"m{count}"
        )
        found.append(weights(tmp_path / f"m{count}"))
    start = weights(tmp_path / "base")
    moved = max(float((found[0][name] - value).abs().max()) for name, value in start.items())
    apart = max(float((found[0][name] - value).abs().max()) for name, value in found[1].items())
    assert moved > 1e-5
    assert apart < 0.05 * moved
    assert not list(tmp_path.glob("*.meeting"))


@pytest.mark.slow
def test_where_one_process_dies_the_run_ends_with_that_reason(tmp_path: Path) -> None:
    """kill -9 of the second: exit code 1, the reason in the report, no model; the same call again ends well."""
    budget = defaults.training(threads=2, processes=2)
    folder, out = snapshot(tmp_path / "s", tier="full", budget=budget, steps=60, batch_size=32), tmp_path / "m"
    process = launch(folder, out, budget)
    os.kill(training(process, out), signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    report = read_report(out)
    assert report is not None
    assert "process 2 of 2 ended with code -9" in report["error"]
    assert not out.exists()
    assert launch(folder, out, budget).wait(timeout=600) == 0
    report = read_report(out)
    assert report is not None
    assert report["resumed_from"] > 0


@pytest.mark.slow
def test_no_process_outlives_the_first(tmp_path: Path) -> None:
    """kill -9 of the one that leads: the other is gone within seconds, and nothing trains on."""
    budget = defaults.training(threads=2, processes=2)
    folder, out = snapshot(tmp_path / "s", tier="full", budget=budget, steps=200, batch_size=32), tmp_path / "m"
    process = launch(folder, out, budget)
    training(process, out)
    process.kill()
    process.wait()
    give_up = time.monotonic() + 30
    while others_of(process, out) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not others_of(process, out)
