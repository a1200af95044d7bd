"""`flywheel import feedback` reads years of history once, whatever stopped it and however often it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.app import open_local
from flywheel.cli import main

DAY_MS = 86_400_000
START_MS = 1_600_000_000_000
PAGES = 4_000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five years of pages, each with a click that has no id of its own."""
    path = tmp_path_factory.mktemp("history") / "ubi.ndjson"
    with path.open("w") as lines:
        for number in range(PAGES):
            moment = START_MS + number * 5 * 365 * DAY_MS // PAGES
            page = {"query_id": f"q{number}", "client_id": f"c{number % 97}"}
            query = {**page, "user_query": "copy", "timestamp": moment, "query_response_hit_ids": ["d1", "d2"]}
            attributes = {"object": {"object_id": "d1"}, "position": {"ordinal": 1}}
            click = {**page, "action_name": "click", "timestamp": moment + 1_000, "event_attributes": attributes}
            lines.write(f"{json.dumps(query)}\n{json.dumps(click)}\n")
    return path


def _count(home: Path) -> tuple[int, int, int]:
    with open_local(home, {"FLYWHEEL__LIMITS__SQL_SECONDS": "300"}) as local:
        clicks = "SELECT count(*) AS clicks, count(DISTINCT event_id) AS ids FROM feedback"
        (row,) = local.sql(f"SELECT *, (SELECT count(*) FROM queries) AS pages FROM ({clicks})").to_pylist()
    return row["pages"], row["clicks"], row["ids"]


@pytest.mark.slow
def test_a_file_is_imported_once_after_a_kill_and_again(
    history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with part of it stored, the next run stores the rest; one more stores nothing, years after the window of
    ingestion's own memory."""
    home = tmp_path / "home"
    assert main(["--home", str(home), "init"]) == 0
    command = [sys.executable, "-m", "flywheel.cli", "--home", str(home), "import", "feedback", str(history)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ}
    )
    assert process.stderr is not None
    assert any("importing feedback" in line for line in process.stderr)  # told after the first batch is stored
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = _count(home)[0] + _count(home)[1]
    assert 0 < begun < 2 * PAGES
    capsys.readouterr()
    again: list[dict[str, object]] = []
    for _ in range(2):
        assert main(["--home", str(home), "import", "feedback", str(history), "--json"]) == 0
        again.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert again[0]["stored"] == 2 * PAGES - begun
    told = {"read": 2 * PAGES, "stored": 0, "skipped": 2 * PAGES, "reasons": {"stored already": 2 * PAGES}}
    assert {name: again[1][name] for name in told} == told
    assert _count(home) == (PAGES, PAGES, PAGES)
