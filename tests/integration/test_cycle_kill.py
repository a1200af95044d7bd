"""A turn of the wheel that is killed with SIGKILL at any of its writes is finished by the next process, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.app import open_local
from tests.integration.world import SETTINGS

MARKS = 18
"""Marks of one undisturbed turn; `test_the_marks_are_all_there` holds the number to what is counted."""
BEFORE_DECIDING, AFTER_DECIDING = 16, 17
NOT_REPEATED = 8
"""Marks up to the snapshot; the process that goes on after a kill at the decision passes all others again."""
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
        assert operations.status()["cycle"]["running"] is None
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


def kill(home: Path, environ: dict[str, str], mark: int) -> None:
    """Take a turn that kills itself at the mark."""
    killed = take_turn(home, environ, mark)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]


def finish(home: Path, environ: dict[str, str]) -> str:
    """Let the next process finish the turn, and look at what is left; returns the verdict."""
    finished = take_turn(home, environ, 0)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return assert_one_clean_turn(home, environ)


@pytest.fixture(scope="module")
def undecided(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose turn was killed when it had all that it needs to decide."""
    home = Path(shutil.copytree(furnished, tmp_path_factory.mktemp("undecided") / "home"))
    kill(home, {**os.environ, **SETTINGS}, BEFORE_DECIDING)
    return home


@pytest.fixture
def undecided_copy(undecided: Path, tmp_path: Path) -> Path:
    """A copy of it that this test may go on with."""
    return Path(shutil.copytree(undecided, tmp_path / "home"))


def test_a_kill_before_the_decision_commits_leaves_one_decision_and_one_alias(
    undecided_copy: Path, environ: dict[str, str]
) -> None:
    """Killed just before the deciding transaction commits, the champion is switched exactly once."""
    assert finish(undecided_copy, environ) == "promote"


def test_a_kill_after_the_decision_leaves_one_decision_and_one_alias(
    undecided_copy: Path, environ: dict[str, str]
) -> None:
    """Killed just after that transaction, by a process that had been killed before it, it is switched once too."""
    kill(undecided_copy, environ, AFTER_DECIDING - NOT_REPEATED)
    assert finish(undecided_copy, environ) == "promote"


@pytest.mark.soak
@pytest.mark.parametrize("mark", [1, 3, 5, 7, 9, 11, 13, 15, MARKS])
def test_a_kill_at_any_write_loses_and_doubles_nothing(copy: Path, environ: dict[str, str], mark: int) -> None:
    """Killed before any write or after the last, the next process ends the same run as if nothing had happened."""
    kill(copy, environ | FEW_STEPS, mark)
    finish(copy, environ | FEW_STEPS)


@pytest.mark.slow
def test_the_marks_are_all_there(copy: Path, environ: dict[str, str]) -> None:
    """An undisturbed turn passes as many marks as the kills cover."""
    done = take_turn(copy, environ | FEW_STEPS, 0)
    assert json.loads(done.stdout.splitlines()[-1]) == {"marks": MARKS}
    assert_one_clean_turn(copy, environ)
