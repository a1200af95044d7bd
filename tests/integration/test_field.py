"""A field of challengers in whole turns: what is trained, what is chosen, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flywheel.app import open_local
from flywheel.commands.watching import screens
from tests.integration.world import SETTINGS

FIELD = {
    "FLYWHEEL__TRAINER__TIER": "auto",
    "FLYWHEEL__TRAINER__STEPS": "4",
    "FLYWHEEL__TRAINER__PROBES": "0",
    "FLYWHEEL__TRAINER__DEV_SHARE": "0.25",
}

# minutes each: not among the tenth of a soak that CI takes
WHOLE = pytest.mark.skipif(not os.environ.get("FLYWHEEL_TEST_SOAK"), reason="runs in `make soak` alone")


def turn(home: Path, **changes: str) -> subprocess.Popen[bytes]:
    """A turn of the wheel in a process of its own."""
    command = [sys.executable, "-m", "tests.integration.turn_process", str(home), "0"]
    return subprocess.Popen(command, env={**os.environ, **SETTINGS, **FIELD, **changes}, stdout=subprocess.PIPE)


def outcome(home: Path) -> tuple[dict[str, object], bytes]:
    """What the run says of its field, without seconds, and the bytes of the version's weights."""
    with open_local(home, {**os.environ, **SETTINGS, **FIELD}) as operations:
        (row,) = operations.sql("select report, state from training_runs").to_pylist()
    assert row["state"] == "done"
    field = json.loads(row["report"])["field"]
    for entry in (field, *field["ways"]):
        entry.pop("seconds", None)
    weights = b"".join(path.read_bytes() for path in sorted((home / "models/v1").rglob("*.safetensors")))
    return field, weights


@pytest.mark.soak
@WHOLE
@pytest.mark.timeout(1_800)  # whole turns, on a machine that may be busy
def test_a_kill_in_the_second_way_changes_neither_the_choice_nor_its_bytes(furnished: Path, tmp_path: Path) -> None:
    """Killed while the second way trains, the next process trains only what was not complete, and chooses alike."""
    homes = [Path(shutil.copytree(furnished, tmp_path / name)) for name in ("whole", "killed")]
    assert turn(homes[0]).wait(1_500) == 0
    whole, weights = outcome(homes[0])
    ways = homes[1] / "models" / "v1.ways"
    process = turn(homes[1])
    while not (ways / "adapter.progress.json").exists():
        assert process.poll() is None, "the turn ended before its second way began"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = (ways / "query_tower" / "flywheel.json").stat().st_mtime_ns
    kept = tmp_path / "kept.json"
    os.link(ways / "query_tower" / "flywheel.json", kept)
    assert turn(homes[1]).wait(1_500) == 0
    assert outcome(homes[1]) == (whole, weights)
    assert kept.stat().st_mtime_ns == made
    assert not ways.exists()
    states = {entry["way"]: entry["state"] for entry in whole["ways"]}  # type: ignore[attr-defined]
    assert list(states.values()).count("chosen") == 1
    assert states["query_tower"] in ("chosen", "near", "worse")
    assert states["adapter"] in ("chosen", "near", "worse")


def made(home: Path, way: str, tier: str, noise: float) -> None:
    """A complete way: the base model, its word vectors off by `noise`."""
    folder = home / "models/v1.ways" / way
    shutil.copytree(home / "models/base", folder)
    for path in sorted(folder.rglob("model.safetensors")):
        weights = load_file(path)
        generator = torch.Generator().manual_seed(0)
        for name, value in weights.items():
            if "word_embeddings" in name:
                weights[name] = value + noise * torch.randn(value.shape, generator=generator)
        path.unlink()  # a link to the furnished home's
        save_file(weights, path, metadata={"format": "pt"})
    manifest = json.loads((folder / "flywheel.json").read_text())
    manifest |= {"version": "v1", "tier": tier, "parent": "base", "run_id": "run-0001"}
    (folder / "flywheel.json").unlink()
    (folder / "flywheel.json").write_text(json.dumps(manifest))
    report = {"version": "v1", "run_id": "run-0001", "error": None, "total_seconds": 1.5, "steps": 4}
    folder.with_name(f"{way}.report.json").write_text(json.dumps(report))


def test_ways_that_are_complete_are_scored_alike_and_one_becomes_the_version(home: Path) -> None:
    """The way that broke the base model's order loses; the report, status and models say what each gained."""
    ways = home / "models/v1.ways"
    ways.mkdir()
    (ways / "run.json").write_text(json.dumps({"run_id": "run-0001"}))
    for way, noise in (("query_tower", 0.3), ("adapter", 0.001)):
        made(home, way, way, noise)
    for way in ("query_tower-clicks", "query_tower-posterior", "query_tower-mean", "full"):
        nothing = {"run_id": "run-0001", "error": None, "nothing": "held-out queries were worse at every look"}
        (ways / f"{way}.report.json").write_text(json.dumps(nothing))
    with open_local(home, {**os.environ, **SETTINGS, **FIELD}) as operations:
        answer = operations.cycle(wait=True)
        status, models = operations.status(), operations.models()
    field = answer["training_run"]["report"]["field"]
    states = {entry["way"]: entry["state"] for entry in field["ways"]}
    assert (field["chosen"], states["adapter"], states["query_tower"]) == ("adapter", "chosen", "worse")
    assert field["labels"] == "clicks"
    assert field["queries"] >= 15
    assert set(states.values()) <= {"chosen", "worse", "nothing learned", "not tried"}
    assert all(entry.get("why") for entry in field["ways"] if entry["state"] in ("not tried", "nothing learned"))
    assert answer["candidate"] == "v1"
    assert not ways.exists()
    assert status["cycle"]["last"]["field"] == field == models[-1]["field"]
    assert any("(chosen)" in line for line in screens.status(status, screens.utc_now()))


def test_a_turn_in_which_nothing_was_learned_is_an_answer(home: Path) -> None:
    """It ends as refused and inconclusive, with what was found, and raises nothing."""
    told = {
        "version": "v1",
        "run_id": "run-0001",
        "error": None,
        "nothing": "held-out queries were worse at every look",
    }
    (home / "models/v1.report.json").write_text(json.dumps(told))
    with open_local(home, {**os.environ, **SETTINGS, "FLYWHEEL__TRAINER__TIER": "query_tower"}) as operations:
        answer = operations.cycle(wait=True)
        assert (answer["training_run"]["state"], answer["candidate"]) == ("refused", None)
        assert answer["decision"]["verdict"] == "inconclusive"
        assert any("nothing better was found: held-out" in reason for reason in answer["decision"]["reasons"])
        assert operations.status()["cycle"]["running"] is None


@pytest.mark.soak
@WHOLE
@pytest.mark.timeout(1_800)  # whole turns, on a machine that may be busy
def test_every_way_is_trained_and_ranked_where_the_first_gains_nothing(furnished: Path, tmp_path: Path) -> None:
    """With a rate at which the query tower cannot move, the second reading, the mean and both towers are tried; all
    are scored on the same queries, and the field leaves the chosen version alone."""
    still = Path(shutil.copytree(furnished, tmp_path / "still"))
    assert turn(still, FLYWHEEL__TRAINER__LEARNING_RATE="1e-12").wait(1_500) == 0
    field, _ = outcome(still)
    ways = {entry["way"]: entry for entry in field["ways"]}  # type: ignore[attr-defined]
    tried = {name: entry for name, entry in ways.items() if entry["state"] != "not tried"}
    assert {"query_tower", "adapter", "full"} <= set(tried)
    assert {entry["queries"] for entry in tried.values()} == {field["queries"]}
    if "query_tower-clicks" in tried:
        assert "query_tower-mean" in tried
    assert not (still / "models" / "v1.ways").exists()
