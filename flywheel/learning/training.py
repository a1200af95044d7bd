"""Runs a training process to its end, for a cycle or for each challenger of a field; a stop ends it at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flywheel.retrieval.indexer import Stopped
from flywheel.retrieval.registry import MANIFEST
from flywheel.settings.load import Limits
from trainer.data.dataset import MANIFEST as SNAPSHOT
from trainer.data.recipe import ResourceBudget
from trainer.process.launch import launch, read_report, report_path

_POLL_SECONDS = 0.1
# how long a stop may come after the trainer's death where one signal reached both
_FAREWELL_SECONDS = 1.0


class TrainingFailed(Exception):  # noqa: N818 - reads as what happened
    """The training subprocess ended without a model; the message is its own reason."""


@dataclass(frozen=True)
class Training:
    """Starts trainers within `[limits]`, and watches for the process's end."""

    limits: Limits
    stop: threading.Event

    def run(
        self,
        snapshot: Path,
        out: Path,
        *,
        tier: str | None = None,
        average: Sequence[Path] = (),
        minutes: float | None = None,
    ) -> dict[str, Any]:
        """Train `snapshot` into `out` unless that is complete; returns the trainer's report.

        `tier` is trained instead of the snapshot's; `average`: no training, but the mean of these models' weights. A
        report with `nothing` says that nothing was learned, and that there is no model.

        Raises:
            TrainingFailed: no model and no such answer.
            Stopped: the process is ending.
        """
        report = read_report(out)
        if (out / MANIFEST).exists():
            return report or {}
        if report is not None and _answers(report, snapshot):
            return report
        report_path(out).unlink(missing_ok=True)  # an earlier run's must not pass for this one's
        budget = ResourceBudget.of(self.limits)
        if minutes is not None:
            budget = replace(budget, minutes=minutes)
        process = launch(snapshot, out, budget, tier=tier, average=average)
        try:
            while process.poll() is None:
                if self.stop.wait(_POLL_SECONDS):
                    raise Stopped("stopping; training goes on from its checkpoint next time")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        report = read_report(out) or {}
        if (out / MANIFEST).exists() or report.get("nothing"):
            return report
        # a signal to the whole group ends the trainer too, perhaps before this process notices the signal
        if process.returncode < 0 and self.stop.wait(_FAREWELL_SECONDS):
            raise Stopped("stopping; training goes on from its checkpoint next time")
        cause = report.get("error") or f"it ended with {process.returncode}; see {out.name}.log in {out.parent.name}/"
        raise TrainingFailed(f"training {out.name} failed: {cause}")


def _answers(report: Mapping[str, Any], snapshot: Path) -> bool:
    """Whether this run has said that nothing was learned. An earlier run of that name may have left a report."""
    if not report.get("nothing"):
        return False
    made: dict[str, Any] = json.loads((snapshot / SNAPSHOT).read_text("utf-8"))
    return bool(report.get("run_id") == made["run_id"])
