"""Finished training runs, copied to MLflow: parameters, curves, metrics, data snapshot, model version.

It reads what the trainer left behind, so the trainer knows nothing of it; and a run never fails because of it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flywheel.settings.home import Home
from flywheel.settings.load import Tracking
from flywheel.store.training.runs import Run

log = logging.getLogger(__name__)

RUN_TAG = "flywheel.run_id"
_STATUS = {"done": "FINISHED", "failed": "FAILED", "refused": "KILLED"}
_VALUE_CHARACTERS = 5_000  # of a tag or parameter, MLflow's own limit


class Tracker:
    """Writes ended runs to one MLflow experiment, each once."""

    def __init__(self, settings: Tracking, home: Home) -> None:
        """Load MLflow's client.

        Raises:
            ValueError: it is not installed.
        """
        environ = os.environ
        environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its own seven, of two minutes each, hold up a turn
        environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(settings.timeout_seconds))
        try:
            import mlflow.entities
            from mlflow import MlflowClient
        except ImportError as error:
            raise ValueError("tracking.enabled needs MLflow: pip install 'flywheel-search[tracking]'") from error
        self._settings, self._home, self._entities = settings, home, mlflow.entities
        self._client = MlflowClient(tracking_uri=settings.uri or f"sqlite:///{(home.root / 'mlflow.db').resolve()}")

    def record(self, run: Run) -> None:
        """Copy an ended run; one that is there already is left alone. Where MLflow fails, the log says so."""
        try:
            self._write(run)
        except Exception:  # whatever MLflow raises: the run is in the database, and this is only a copy of it
            log.exception("run %s is not in MLflow; training and promotion are not concerned", run.run_id)

    def _write(self, run: Run) -> None:
        client, name = self._client, self._settings.experiment
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else client.create_experiment(name)
        if client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.run_id}' AND attributes.status != 'RUNNING'"):
            return
        manifest = manifest_of(self._home.snapshots / run.run_id)
        tags = {key: _cut(value) for key, value in tags_of(run, manifest) if value}
        made = client.create_run(
            experiment, start_time=run.started_at_ms, tags=tags, run_name=run.version or run.run_id
        )
        parameters = [self._entities.Param(key, _cut(value)) for key, value in parameters_of(run, manifest)]
        metrics = [
            self._entities.Metric(key, value, run.finished_at_ms or run.started_at_ms, step)
            for key, value, step in metrics_of(run.report or {})
        ]
        client.log_batch(made.info.run_id, params=parameters[:100])
        for start in range(0, len(metrics), 1_000):  # MLflow's own limits on one batch
            client.log_batch(made.info.run_id, metrics=metrics[start : start + 1_000])
        client.set_terminated(made.info.run_id, _STATUS.get(run.state, "FINISHED"), end_time=run.finished_at_ms)


def manifest_of(snapshot: Path) -> Mapping[str, Any]:
    """What a snapshot's manifest says; nothing where there is no snapshot."""
    try:
        found: dict[str, Any] = json.loads((snapshot / "snapshot.json").read_text("utf-8"))
    except FileNotFoundError:  # refused before there was anything to learn from
        return {}
    return found


def tags_of(run: Run, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
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


def parameters_of(run: Run, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
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


def _cut(value: Any) -> str:
    return str(value)[:_VALUE_CHARACTERS]
