"""One run's contact with the outside: clock, memory, progress file, checkpoint, report. All writes are atomic."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from trainer.data.recipe import ResourceBudget
from trainer.process.launch import checkpoint_path, progress_path, report_path
from trainer.process.processes import ALONE, Processes

CHECKPOINT_SECONDS = 5.0
PROGRESS_SECONDS = 0.5
Checkpoint = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors, and facts as JSON holds them
FINISHING_SHARE = 0.1  # of the time budget, kept for merging, scoring and saving


class OverBudget(RuntimeError):  # noqa: N818 - reads as what happened
    """The run would use, or used, more than it may; the message says how much, and which setting raises it."""


class Run:
    """Compares a run with its budget, and writes what others read about it."""

    def __init__(
        self,
        out: Path,
        snapshot_id: str,
        budget: ResourceBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
        processes: Processes = ALONE,
    ) -> None:
        self.processes = processes
        self.out, self._snapshot_id, self._budget, self._clock = out, snapshot_id, budget, clock
        self._start = clock()
        self._saved = self._start
        self._reported = self._start - PROGRESS_SECONDS
        self._first_step: tuple[int, float] | None = None

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return self._clock() - self._start

    def out_of_time(self) -> bool:
        """Whether only the time for merging, scoring and saving is left."""
        return self.processes.agree(self.seconds > self._budget.minutes * 60 * (1 - FINISHING_SHARE))

    def check_memory(self, *, planned_gb: float = 0.0) -> None:
        """Raises OverBudget where the memory in use, with what is planned, is more than the budget."""
        used = peak_memory_gb() + planned_gb
        if used > self._budget.memory_gb:
            raise OverBudget(f"training needs {used:.1f} GB and may use {self._budget.memory_gb:g}; raise "
                             "limits.train_memory_gb, or lower trainer.batch_size or trainer.replay_size")  # fmt: skip

    def report(self, *, phase: str, step: int, steps: int, loss: float | None, dev: float | None) -> None:
        """Replace the progress file, at most twice a second."""
        now = self._clock()
        if not self.processes.main or (now - self._reported < PROGRESS_SECONDS and step not in {0, steps}):
            return
        self._reported = now
        if step and self._first_step is None:
            self._first_step = (step, now)
        eta = None
        if self._first_step is not None and step > self._first_step[0]:
            eta = round((now - self._first_step[1]) / (step - self._first_step[0]) * (steps - step), 1)
        facts = {"step": step, "steps": steps, "loss": loss, "dev_ndcg": dev, "eta_seconds": eta, "phase": phase}
        write_json(progress_path(self.out), facts)

    def checkpoint_due(self) -> bool:
        """Whether this process writes checkpoints and the last one is old enough."""
        return self.processes.main and self._clock() - self._saved >= CHECKPOINT_SECONDS

    def save_checkpoint(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the checkpoint: tensors and facts in one file, so that they always belong together."""
        path = checkpoint_path(self.out)
        draft = path.with_suffix(".tmp")
        note = json.dumps({**facts, "snapshot_id": self._snapshot_id, "threads": torch.get_num_threads()})
        save_file({name: value.contiguous() for name, value in tensors.items()}, draft, metadata={"facts": note})
        draft.replace(path)
        self._saved = self._clock()

    def load_checkpoint(self) -> Checkpoint | None:
        """The checkpoint of this snapshot, or None where there is none, or one of another snapshot."""
        path = checkpoint_path(self.out)
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            if facts["snapshot_id"] != self._snapshot_id:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a dict

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the report and drop the checkpoint."""
        if not self.processes.main:
            return
        used = {
            "total_seconds": round(self.seconds, 1),
            "peak_gb": peak_memory_gb(),
            "threads": torch.get_num_threads(),
        }
        write_json(report_path(self.out), {**facts, **used})
        checkpoint_path(self.out).unlink(missing_ok=True)


def peak_memory_gb() -> float:
    """The most resident memory that this process ever had.

    On Linux from /proc, because getrusage inherits the peak of the process that started this one, here the daemon's.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20, 2)
    except (OSError, StopIteration):
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file at once: a reader sees the old content or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(value, indent=2), "utf-8")
    draft.replace(path)
