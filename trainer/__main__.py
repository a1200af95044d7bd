"""`python -m trainer --snapshot DIR --out DIR`: one training run. `trainer.outcome` says how it may end."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from flywheel.settings.choices import Tier
from trainer.data.dataset import Snapshot, read_snapshot
from trainer.outcome import FAILED, LEARNED, NOTHING, NothingLearned
from trainer.process.launch import checkpoint_path, read_report, report_path, threads_of
from trainer.process.parent import end_with

if TYPE_CHECKING:
    from trainer.process.processes import Processes

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
    parser.add_argument("--tier", choices=get_args(Tier), help="train this tier instead of the snapshot's")
    parser.add_argument("--average", type=Path, nargs="+", help="train nothing: the mean of these models' weights")
    parser.add_argument("--minutes", type=float, help="wall time at most, instead of the snapshot's")
    for name, words in (
        ("rank", "its number among"),
        ("count", "the processes of a run"),
        ("meeting", "and their file"),
    ):
        parser.add_argument(f"--{name}", type=Path if name == "meeting" else int, help=words)
    options = parser.parse_args(arguments)
    if options.parent is not None:
        end_with(options.parent)
    if not options.rank:
        report_path(options.out).unlink(missing_ok=True)  # an earlier run's must not pass for this one's
    try:
        snapshot = _asked(read_snapshot(options.snapshot), options)
        with _processes(options, snapshot) as processes:
            report = train(snapshot, options.out, processes, average=options.average or ())
    except NothingLearned as answer:
        if options.rank:  # the main process tells it
            return LEARNED
        _write_nothing(snapshot, options.out, answer)
        print(f"{snapshot.header.version}: nothing learned: {answer.reason}", file=sys.stderr)
        return NOTHING
    except Exception as error:  # noqa: BLE001 - the one place where a run ends: whatever it was, it leaves a reason
        traceback.print_exc()
        _write_failure(options.out, f"{type(error).__name__}: {error}")
        return FAILED
    if not options.rank:
        print(f"{report['version']}: {report['steps']} steps, {report['stopped']}", file=sys.stderr)
    return LEARNED


def _asked(snapshot: Snapshot, options: argparse.Namespace) -> Snapshot:
    """The snapshot with what the command line says instead."""
    header, budget = snapshot.header, snapshot.budget
    if options.tier:
        header = dataclasses.replace(header, tier=options.tier)
    if options.minutes is not None:
        budget = dataclasses.replace(budget, minutes=options.minutes)
    return dataclasses.replace(snapshot, header=header, budget=budget)


def _processes(options: argparse.Namespace, snapshot: Snapshot) -> contextlib.AbstractContextManager[Processes]:
    """This process among those of its run; the first of them starts the others."""
    from flywheel.retrieval.encoder import pick_device
    from trainer.process.processes import ALONE, count_of, joined, led

    device = pick_device(snapshot.recipe.device)
    if options.rank:
        return joined(options.meeting, options.rank, options.count, device=device)
    count = count_of(snapshot.budget.processes, tier=snapshot.header.tier, device=device)
    if count == 1:
        return contextlib.nullcontext(ALONE)
    command = [sys.executable, "-m", "trainer", "--snapshot", str(options.snapshot), "--out", str(options.out)]
    command += ["--tier", snapshot.header.tier, "--minutes", str(snapshot.budget.minutes)]
    return led(command, options.out, count, device=device, failed=lambda words: _write_failure(options.out, words))


def train(
    snapshot: Snapshot, out: Path, processes: Processes | None = None, *, average: Sequence[Path] = ()
) -> dict[str, Any]:
    """Train `snapshot` in this process, one of `processes`; returns the report, which the main one writes by `out`.

    With `average` nothing is trained; see `trainer.tiers.average`.
    """
    import torch

    from trainer.process.processes import ALONE
    from trainer.process.run import Run

    processes = processes or ALONE
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    torch.set_num_threads(max(1, threads_of(snapshot.budget) // processes.count))
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(snapshot.header.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    run = Run(out, snapshot.snapshot_id, snapshot.budget, processes=processes)
    metrics: dict[str, Any]
    if average:
        metrics = importlib.import_module("trainer.tiers.average").average(snapshot, run, average)
    else:
        metrics = importlib.import_module(f"trainer.tiers.{snapshot.header.tier}").train(snapshot, run)
    header = snapshot.header
    report = {"version": header.version, "run_id": header.run_id, "tier": header.tier, "error": None, **metrics}
    run.finish(report)
    run.report(
        phase="done", step=report["steps"], steps=report["steps"], loss=None, dev=report["dev"]["candidate"]["all"]
    )
    return report


def _write_nothing(snapshot: Snapshot, out: Path, answer: NothingLearned) -> None:
    from trainer.process.run import write_json

    header = snapshot.header
    report = {"version": header.version, "run_id": header.run_id, "tier": header.tier, "error": None}
    write_json(report_path(out), report | {"nothing": answer.reason, **answer.facts})
    checkpoint_path(out).unlink(missing_ok=True)


def _write_failure(out: Path, words: str) -> None:
    from trainer.process.run import write_json

    out.parent.mkdir(parents=True, exist_ok=True)
    report = read_report(out)
    if report is None or report.get("error") is None:  # of several processes, the first to fail has the cause
        write_json(report_path(out), {"version": out.name, "error": words})


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with contextlib.suppress(OSError):
        os.nice(max(0, NICENESS - os.nice(0)))  # child processes inherit it and must not add to it
    sys.exit(main())
