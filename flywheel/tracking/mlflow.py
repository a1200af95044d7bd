"""Copies finished training runs to MLflow: parameters, curves, metrics, data snapshot, model version.

It reads what the trainer left behind, so the trainer knows nothing of it. No run fails because of it.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from flywheel.settings.home import Home
from flywheel.settings.load import Tracking
from flywheel.store.training.runs import TrainingRun
from flywheel.tracking.runs import RUN_TAG, manifest_of, metrics_of, parameters_of, tags_of

log = logging.getLogger(__name__)

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

    def record(self, run: TrainingRun) -> None:
        """Copy an ended run. One that is there already is left alone. If MLflow fails, the log says so."""
        try:
            self._write(run)
        except Exception:  # whatever MLflow raises: the run is in the database, and this is only a copy of it
            log.exception("run %s is not in MLflow; training and promotion are not concerned", run.run_id)

    def _write(self, run: TrainingRun) -> None:
        client, name = self._client, self._settings.experiment
        existing = client.get_experiment_by_name(name)
        experiment = existing.experiment_id if existing is not None else client.create_experiment(name)
        # a copy that a crash cut short is still RUNNING, and is made again
        if client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.run_id}' AND attributes.status != 'RUNNING'"):
            return
        manifest = manifest_of(self._home.snapshots / run.run_id)
        tags = {key: _cut(value) for key, value in tags_of(run, manifest) if value}
        copied = client.create_run(
            experiment, start_time=run.started_at_ms, tags=tags, run_name=run.version or run.run_id
        )
        parameters = [self._entities.Param(key, _cut(value)) for key, value in parameters_of(run, manifest)]
        metrics = [
            self._entities.Metric(key, value, run.finished_at_ms or run.started_at_ms, step)
            for key, value, step in metrics_of(run.report or {})
        ]
        client.log_batch(copied.info.run_id, params=parameters[:100])
        for start in range(0, len(metrics), 1_000):  # MLflow's own limits on one batch
            client.log_batch(copied.info.run_id, metrics=metrics[start : start + 1_000])
        client.set_terminated(copied.info.run_id, _STATUS.get(run.state, "FINISHED"), end_time=run.finished_at_ms)


def _cut(value: Any) -> str:
    return str(value)[:_VALUE_CHARACTERS]
