"""What a tracking service is told of an ended run: tags, parameters, curves and final figures. It sends nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.store.training.runs import TrainingRun

RUN_TAG = "flywheel.run_id"


def manifest_of(snapshot: Path) -> Mapping[str, Any]:
    """The manifest of a snapshot; empty if there is no snapshot."""
    try:
        manifest: dict[str, Any] = json.loads((snapshot / "snapshot.json").read_text("utf-8"))
    except FileNotFoundError:  # refused before there was anything to learn from
        return {}
    return manifest


def tags_of(run: TrainingRun, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(name, value): where a run belongs, and how it ended."""
    yield RUN_TAG, run.run_id
    yield "flywheel.version", run.version
    yield "flywheel.parent", run.parent
    yield "flywheel.tier", run.tier
    yield "flywheel.trigger", run.trigger
    yield "flywheel.state", run.state
    yield "flywheel.error", run.error
    yield "flywheel.snapshot_id", manifest.get("snapshot_id")
    yield "flywheel.stopped", (run.report or {}).get("stopped")


def parameters_of(run: TrainingRun, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value): seed, counts of pairs, recipe and budget."""
    yield "seed", run.seed
    yield "pairs_new", run.pairs_new
    yield "pairs_replay", run.pairs_replay
    for section in ("recipe", "budget"):
        for key, value in manifest.get(section, {}).items():
            yield f"{section}.{key}", value


def metrics_of(report: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """(name, value, step): the curves step by step, then what the report says of the whole run."""
    for point in report.get("history", ()):
        for key, value in point.items():
            if key != "step" and value is not None:
                yield ("loss" if key == "loss" else f"dev.{key}"), float(value), int(point["step"])
    last = int(report.get("steps") or 0)
    for side, scores in report.get("dev", {}).items():
        for part, value in scores.items():
            if value is not None:
                yield f"{side}.{part}", float(value), last
    for key in ("steps", "pairs_per_second", "trained_documents", "merge", "total_seconds", "peak_gb"):
        if isinstance(report.get(key), int | float):
            yield key, float(report[key]), last
