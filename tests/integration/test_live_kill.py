"""A process that is killed anywhere from a queued challenger to its rollback is followed by one that ends it, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flywheel.store import Store
from flywheel.store.evaluation.experiments import Experiment
from tests.experiments.live_world import BETTER, EQUAL, START, WORSE, World

MARKS = 38
"""Marks of one undisturbed way; `test_the_marks_are_all_there` holds the number to what is counted."""
AROUND_PROMOTING = (21, 22, 24)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of a way are there: v1 better where it is interleaved and split, and worse in the watch after that."""
    folder = tmp_path_factory.mktemp("live")
    from tests.integration.live_process import CONFIG

    with Store.open(folder / "a.duckdb", memory_gb=0.5, threads=1, watermark_minutes=0) as store:
        world = World(store, CONFIG, {"v0": EQUAL, "v1": BETTER}, people=1_500)
        for stage, share in (("interleaving", 1.0), ("split", 0.5), ("confirmation", 0.5)):
            row = Experiment(f"run-1-{stage}", "v1", "v0", stage, START, share=share)
            world.qualities = {"v0": EQUAL, "v1": WORSE if stage == "confirmation" else BETTER}
            for _ in range(5):
                world.search_for_a_day(row)
        world.queue("v1", "interleaving")
        (folder / "day").write_text(str(world.day))
    return folder


def go(folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.live_process", str(folder), str(kill_at)]
    return subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=1_200, check=False)


def left(folder: Path) -> dict[str, Any]:
    """What stands in the database and on the topic, but for times."""
    wanted = {
        "decisions": "decision_id, kind, version, previous, alias, spent, reasons, announced_at IS NOT NULL",
        "experiments": "experiment_id, stage, state, verdict, reasons, share, alpha",
        "aliases": "alias, version, decision_id",
        "models": "version, state",
        "ab_outcomes": "experiment_id, metric, champion_sum, challenger_sum, champion_users, effect, verdict",
        "experiment_daily": "experiment_id, day::VARCHAR, arm, metric, users, pages, total",
        "tallies": "experiment_id, pages",
        "experiment_people": "person",
    }
    with (
        Store.open(folder / "a.duckdb", memory_gb=0.5, threads=1, watermark_minutes=0) as store,
        store.database.read() as con,
    ):
        found = {
            table: con.execute(f"SELECT {what} FROM {table} ORDER BY ALL").fetchall() for table, what in wanted.items()
        }
    told = [json.loads(line) for line in (folder / "topic.jsonl").read_text().splitlines()]
    return found | {"topic": [(message["decision_id"], message["kind"], message["version"]) for message in told]}


@pytest.fixture(scope="module")
def undisturbed(waiting: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """Marks, and what is left, of a way that nothing interrupts."""
    folder = Path(shutil.copytree(waiting, tmp_path_factory.mktemp("whole") / "home"))
    done = go(folder, 0)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])["marks"], left(folder)


def test_the_way_is_what_it_should_be(undisturbed: tuple[int, dict[str, Any]]) -> None:
    """Screened, promoted, watched, taken back: one decision each, one alias, two announcements in order."""
    marks, found = undisturbed
    assert marks == MARKS
    assert found["topic"][-2:] == [("run-1-split", "promote", "v1"), ("run-1-confirmation", "rollback", "v0")]
    assert found["aliases"] == [("champion", "v0", "run-1-confirmation")]
    assert [row[1:4] for row in found["experiments"]] == [
        ("confirmation", "decided", "reject"),
        ("interleaving", "decided", "promote"),
        ("split", "decided", "promote"),
    ]


def killed(waiting: Path, folder: Path, mark: int) -> dict[str, Any]:
    shutil.copytree(waiting, folder)
    first = go(folder, mark)
    assert first.returncode == -signal.SIGKILL, first.stderr[-2000:]
    second = go(folder, 0)
    assert second.returncode == 0, second.stderr[-2000:]
    return left(folder)


@pytest.mark.parametrize("mark", AROUND_PROMOTING)
def test_a_kill_around_the_promotion_changes_nothing(
    waiting: Path, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path, mark: int
) -> None:
    """Killed before it commits, after, or between sending and marking: decision, alias and message are there once."""
    assert killed(waiting, tmp_path / "home", mark) == undisturbed[1]


@pytest.mark.soak
@pytest.mark.parametrize("mark", [mark for mark in range(1, MARKS + 1) if mark not in AROUND_PROMOTING])
def test_a_kill_anywhere_changes_nothing(
    waiting: Path, undisturbed: tuple[int, dict[str, Any]], tmp_path: Path, mark: int
) -> None:
    """Every transaction of the way, before and after its commit, and every message."""
    assert killed(waiting, tmp_path / "home", mark) == undisturbed[1]
