"""Starts a training subprocess and reads what it leaves; it loads neither torch nor the model library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.data.recipe import ResourceBudget


def threads_of(budget: ResourceBudget) -> int:
    """Threads that a run may use: as the budget says, else all cores but one, at least one."""
    return budget.threads or max(1, (os.cpu_count() or 2) - 1)


def launch(
    snapshot: Path,
    out: Path,
    budget: ResourceBudget,
    *,
    tier: str | None = None,
    average: Sequence[Path] = (),
) -> subprocess.Popen[bytes]:
    """Start training `snapshot` into the model directory `out`; its output goes to `<out>.log`.

    `tier` is trained instead of the snapshot's, within `budget`. With `average` nothing is trained: the model's weights
    are the mean of those models'.

    It ends with this process, and on Linux with the thread that calls this, so that no orphan goes on writing.
    The same call after a crash or kill goes on from the checkpoint. The caller waits for it, or kills it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    threads = str(threads_of(budget))
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    environ |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "trainer", "--snapshot", str(snapshot.resolve()), "--out", str(out.resolve())]
    command += ["--parent", str(os.getpid()), "--minutes", str(budget.minutes)]
    command += [*(["--tier", tier] if tier else []), *(["--average", *map(str, average)] if average else [])]
    with out.with_name(f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)  # noqa: S603 - our own command


def progress_path(out: Path) -> Path:
    """Where a run writes its progress."""
    return out.with_name(f"{out.name}.progress.json")


def report_path(out: Path) -> Path:
    """Where a run writes how it ended."""
    return out.with_name(f"{out.name}.report.json")


def checkpoint_path(out: Path) -> Path:
    """Where a run keeps what it needs to go on."""
    return out.with_name(f"{out.name}.checkpoint.safetensors")


def ways_path(out: Path) -> Path:
    """Where the challengers of a field are made, until one of them becomes the version `out`."""
    return out.with_name(f"{out.name}.ways")


def read_progress(out: Path) -> dict[str, Any] | None:
    """{step, steps, loss, dev_ndcg, eta_seconds, phase}, or None before the first.

    Where a field of challengers is trained, that of the challenger at work.
    """
    fields = sorted(ways_path(out).glob("*.progress.json"), key=lambda path: path.stat().st_mtime_ns)
    return _read(fields[-1] if fields else progress_path(out))


def read_report(out: Path) -> dict[str, Any] | None:
    """How the run ended (`error` where it failed, `nothing` where nothing was learned), or None while it has not."""
    return _read(report_path(out))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return value
