"""A turn of the wheel that is killed with SIGKILL at any of its writes is finished by the next process, once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.app import open_local

MARKS = 18
"""Marks of one undisturbed turn; `test_the_marks_are_all_there` holds the number to what is counted."""
AROUND_DECIDING = (16, 17)
FEW_STEPS = {"FLYWHEEL__TRAINER__STEPS": "6"}


def take_turn(home: Path, environ: dict[str, str], kill_at: int) -> subprocess.CompletedProcess[str]:
    """Run the turn in a process of its own."""
    command = [sys.executable, "-m", "tests.integration.turn_process", str(home), str(kill_at)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1_200, check=False)


def assert_one_clean_turn(home: Path, environ: dict[str, str]) -> str:
    """One run, one decision, one alias that agrees with it, one whole model, no lock; returns the verdict."""
    with open_local(home, environ) as operations:
        runs = operations.sql("select state from training_runs").to_pylist()
        assert runs == [{"state": "done"}]
        decisions = operations.sql("select kind, version, alias from decisions order by number").to_pylist()
        assert [row["version"] for row in decisions] == ["base", "v1"]
        champion = "v1" if decisions[1]["kind"] == "promote" else "base"
        assert operations.sql("select alias, version from aliases").to_pylist() == [
            {"alias": "champion", "version": champion}
        ]
        assert operations.sql("select count(*) n from locks").to_pylist() == [{"n": 0}]
        doubled = operations.sql("select count(*) - count(distinct (query_key, doc_id)) n from pairs").to_pylist()
        assert doubled == [{"n": 0}]
    folders = [path.name for path in (home / "models").iterdir() if path.is_dir()]
    assert sorted(folders) == ["base", "v1"]
    assert (home / "models/v1/flywheel.json").exists()
    return str(decisions[1]["kind"])


@pytest.fixture
def copy(furnished: Path, tmp_path: Path) -> Path:
    """A home that this test may kill processes on."""
    return Path(shutil.copytree(furnished, tmp_path / "home"))


def killed_and_finished(home: Path, environ: dict[str, str], mark: int) -> str:
    """Kill a turn at `mark`, let the next process finish it, and look at what is left."""
    killed = take_turn(home, environ, mark)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    finished = take_turn(home, environ, 0)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return assert_one_clean_turn(home, environ)


@pytest.mark.parametrize("mark", AROUND_DECIDING)
def test_a_kill_around_the_decision_leaves_one_decision_and_one_alias(
    copy: Path, environ: dict[str, str], mark: int
) -> None:
    """Killed just before the deciding transaction commits, or just after, the champion is switched exactly once."""
    assert killed_and_finished(copy, environ, mark) == "promote"


@pytest.mark.slow
@pytest.mark.parametrize("mark", [1, 3, 5, 7, 9, 11, 13, 15, MARKS])
def test_a_kill_at_any_write_loses_and_doubles_nothing(copy: Path, environ: dict[str, str], mark: int) -> None:
    """Killed before any write or after the last, the next process ends the same run as if nothing had happened."""
    killed_and_finished(copy, environ | FEW_STEPS, mark)


@pytest.mark.slow
def test_the_marks_are_all_there(copy: Path, environ: dict[str, str]) -> None:
    """An undisturbed turn passes as many marks as the kills cover."""
    done = take_turn(copy, environ | FEW_STEPS, 0)
    assert json.loads(done.stdout.splitlines()[-1]) == {"marks": MARKS}
    assert_one_clean_turn(copy, environ)
