"""Copies finished training runs to Weights & Biases, as `flywheel.tracking.mlflow` copies them to MLflow.

Each is first written to the home, in the library's form for runs without a network, and sent from there. A missing
server delays nothing and loses nothing.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flywheel.settings.home import Home
from flywheel.settings.load import Tracking
from flywheel.store.training.runs import TrainingRun
from flywheel.tracking.runs import manifest_of, metrics_of, parameters_of, tags_of

log = logging.getLogger(__name__)

_FAILED = {"failed": 1, "refused": 1}
_WHOLE = "flywheel.whole"  # marks a folder that was written to its end


class Diary:
    """Writes ended runs below the home's folder `wandb`, each once. With `tracking.wandb_send` it also sends them."""

    def __init__(self, settings: Tracking, home: Home) -> None:
        """Load the library.

        Raises:
            ValueError: it is not installed.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError as error:
            raise ValueError("tracking.wandb_project needs W&B: pip install 'flywheel-search[wandb]'") from error
        self._wandb: Any = wandb
        self._settings, self._home = settings, home

    def record(self, run: TrainingRun) -> None:
        """Copy an ended run. One that is there already is left alone. If the library fails, the log says so."""
        try:
            folder = self._written(run.run_id) or self._write(run)
            if self._settings.wandb_send and not list(folder.glob("*.synced")):
                self._send(folder)
        except Exception:  # whatever the library raises: the run is in the database, and this is only a copy of it
            log.exception("run %s is not in W&B; training and promotion are not concerned", run.run_id)

    def _written(self, run_id: str) -> Path | None:
        """The folder of the whole run, under the library's own name for it. What a crash left has no mark."""
        folders = self._home.root.glob(f"wandb/offline-run-*-{run_id}")
        return next((folder for folder in folders if (folder / _WHOLE).exists()), None)

    def _write(self, run: TrainingRun) -> Path:
        manifest = manifest_of(self._home.snapshots / run.run_id)
        settings = self._wandb.Settings(
            silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True,
            x_save_requirements=False,
        )  # fmt: skip
        copied = self._wandb.init(
            project=self._settings.wandb_project,
            id=run.run_id,
            name=run.version or run.run_id,
            config=dict(parameters_of(run, manifest)) | {key: value for key, value in tags_of(run, manifest) if value},
            tags=[word for word in (run.tier, run.trigger, run.state) if word],
            dir=str(self._home.root.resolve()),
            mode="offline",
            reinit="create_new",
            settings=settings,
        )
        points: dict[int, dict[str, float]] = {}
        for key, value, step in metrics_of(run.report or {}):
            points.setdefault(step, {})[key] = value
        for step, values in sorted(points.items()):
            copied.log(values, step=step)
        copied.finish(exit_code=_FAILED.get(run.state, 0))
        self._wandb.teardown()  # ends the library's own process, which writes the file's last records
        folder = Path(copied.dir).parent
        (folder / _WHOLE).touch()
        return folder

    def _send(self, folder: Path) -> None:
        """Send it with the library's own command, which marks what has arrived.

        It waits no longer than `tracking.timeout_seconds`.
        """
        command = [sys.executable, "-m", "wandb", "sync", str(folder.resolve())]
        environ = {**os.environ, "WANDB_SILENT": "true"}
        seconds = self._settings.timeout_seconds
        try:
            sync = subprocess.run(  # noqa: S603 - our own interpreter, no shell
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
                cwd=self._home.root,
            )
            if sync.returncode == 0 and list(folder.glob("*.synced")):
                return
            printed = (sync.stderr or sync.stdout).decode(errors="replace").strip()
            problem = printed[-500:] or f"exit code {sync.returncode}"
        except subprocess.TimeoutExpired:
            problem = f"no answer within {seconds} s"
        log.error("W&B did not take a run: %s. Nothing is lost; send it with: wandb sync %s", problem, folder)
