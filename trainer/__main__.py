"""`python -m trainer --snapshot DIR --out DIR`: one training run. Exit code 0, or 1 with the reason in its report."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from trainer.dataset import Snapshot, read_snapshot
from trainer.launch import report_path, threads_of
from trainer.parent import end_with

NICENESS = 5  # serving and ingestion come first on a shared machine


def main(arguments: list[str] | None = None) -> int:
    """Run the trainer; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train one model version from a snapshot.",
        epilog="example: python -m trainer --snapshot home/snapshots/r7 --out home/models/v7",
    )
    parser.add_argument("--snapshot", type=Path, required=True, help="folder that write_snapshot made")
    parser.add_argument("--out", type=Path, required=True, help="model directory to make; its report goes beside it")
    parser.add_argument("--parent", type=int, help="process to end with; without it the run outlives its starter")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        end_with(options.parent)
    report_path(options.out).unlink(missing_ok=True)
    try:
        report = train(read_snapshot(options.snapshot), options.out)
    except Exception as error:  # noqa: BLE001 - the one place where a run ends: whatever it was, it leaves a reason
        traceback.print_exc()
        _write_failure(options.out, error)
        return 1
    print(f"{report['version']}: {report['steps']} steps, {report['stopped']}", file=sys.stderr)
    return 0


def train(snapshot: Snapshot, out: Path) -> dict[str, Any]:
    """Train `snapshot` in this process; returns the report, which is also beside `out`."""
    import torch

    from trainer.run import Run

    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    torch.set_num_threads(threads_of(snapshot.budget))
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(snapshot.header.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(out, snapshot.snapshot_id, snapshot.budget)
    tier = importlib.import_module(f"trainer.tiers.{snapshot.header.tier}")
    metrics: dict[str, Any] = tier.train(snapshot, run)
    header = snapshot.header
    report = {"version": header.version, "run_id": header.run_id, "tier": header.tier, "error": None, **metrics}
    run.finish(report)
    run.report(
        phase="done", step=report["steps"], steps=report["steps"], loss=None, dev=report["dev"]["candidate"]["all"]
    )
    return report


def _write_failure(out: Path, error: Exception) -> None:
    from trainer.run import write_json

    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(report_path(out), {"version": out.name, "error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    sys.exit(main())
