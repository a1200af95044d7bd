"""What a training process left is taken for this run's only where it is."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from flywheel.learning.training import Training, TrainingFailed
from flywheel.settings.load import Config
from trainer.data.dataset import MANIFEST as SNAPSHOT
from trainer.process.launch import report_path

ANSWER = {"run_id": "run-0001", "error": None, "nothing": "held-out queries were worse at every look"}


@pytest.mark.parametrize(("run_id", "taken"), [("run-0001", True), ("run-0002", False)])
def test_an_answer_counts_for_the_run_that_gave_it(tmp_path: Path, run_id: str, taken: bool) -> None:
    """Another run's report of the same version name is removed, and this run's own failure is told."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / SNAPSHOT).write_text(json.dumps({"run_id": run_id}))
    report_path(tmp_path / "v1").write_text(json.dumps(ANSWER))
    training = Training(Config().limits, threading.Event())
    if taken:
        assert training.run(tmp_path / "s", tmp_path / "v1")["nothing"] == ANSWER["nothing"]
    else:
        with pytest.raises(TrainingFailed) as failure:
            training.run(tmp_path / "s", tmp_path / "v1")
        assert "worse at every look" not in str(failure.value)
