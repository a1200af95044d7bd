"""The same commands beside a running daemon: they go through its HTTP API, and one home has one daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.commands.display import training_step
from tests.store.test_satisfied import SATISFIED, records

FLYWHEEL = [sys.executable, "-m", "flywheel.cli"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Beside:
    """A home with a daemon on it; its broker is an address where nobody listens."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.told: list[Any] = []
        settings = {"KAFKA__BOOTSTRAP": f"127.0.0.1:{_free_port()}", "SERVING__PORT": "0", "SERVING__TOKEN": "secret"}
        self.environ = {**os.environ, **{f"FLYWHEEL__{name}": value for name, value in settings.items()}}
        self.run("init")
        with (home / "daemon.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*FLYWHEEL, "--home", str(home), "run"], env=self.environ, stdout=log, stderr=log
            )
        self._wait_until_it_answers()

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [*FLYWHEEL, "--home", str(self.home), *arguments]
        ran = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, timeout=120)
        assert ran.returncode == code, ran.stderr
        return ran

    def answer(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def ask(self) -> list[Any]:
        """What commands answer that ask in SQL: a plan, a verdict by arm, two exports, what clicks are worth."""
        labels, decisions = str(self.home.parent / "labels.json"), str(self.home.parent / "decisions.jsonl")
        return [
            self.answer("evaluate", "--plan", "0.5"),
            self.answer("evaluate", "--experiment", "ten"),
            self.answer("export", "labels", labels),
            self.answer("export", "decisions", decisions, "--limit", "1"),
            self.answer("evaluate", "--clicks"),
        ]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 120
        while not (self.home / "daemon.json").exists():
            assert self.process.poll() is None, (self.home / "daemon.log").read_text()
            assert time.monotonic() < deadline
            threading.Event().wait(0.1)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    running = Beside(tmp_path_factory.mktemp("daemon") / "home")
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_status_says_that_the_broker_is_away(beside: Beside) -> None:
    """An unreachable broker is no failure of the daemon: it answers, retries, and says so with the address."""
    status = beside.answer("status")
    assert status["uptime"] > 0
    assert "127.0.0.1" in json.dumps(status["broker"])


def test_metrics_are_the_numbers_of_status(beside: Beside) -> None:
    """What the dashboard and the alerts ask of an idle daemon is there, without a token."""
    metrics = _get(beside, "/metrics")
    there = {line.split("{")[0].split(" ")[0] for line in metrics.splitlines()}
    asked = {"up", "uptime_seconds", "ingest_events_total", "ingest_dead_letters_total", "retraining_paused"}
    asked |= {"index_documents", "index_pending_documents", "pages_lost_total", "disk_free_bytes", "ready"}
    asked |= {"experiments_queued", "experiments_void", "experiments_rolled_back", "error_budget_left_ratio"}
    assert {f"flywheel_{name}" for name in asked} - there == set()


def test_a_broker_that_is_away_takes_no_search_down(beside: Beside) -> None:
    """Searches are ready without a broker; that ingestion stands still is a problem, a metric and an age."""
    assert json.loads(_get(beside, "/readyz")) == {"ready": True, "reasons": []}
    deadline = time.monotonic() + 60
    while "no broker answers" not in (status := beside.answer("status"))["problems"]["ingest"]:
        assert time.monotonic() < deadline, status["problems"]
    assert (status["ingest"]["lag"], status["ingest"]["partitions"]) == (None, [])
    assert status["ingest"]["stalled_seconds"] > 0
    metrics = _get(beside, "/metrics")
    assert 'flywheel_problem{part="ingest"} 1.0' in metrics
    assert "flywheel_ingest_lag_messages" not in metrics, "nobody knows the lag"


def _get(beside: Beside, path: str) -> str:
    url = json.loads((beside.home / "daemon.json").read_text())["url"]
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=30) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError:  # the champion is being loaded
            assert time.monotonic() < deadline
            threading.Event().wait(0.2)


def test_commands_reach_the_home_through_the_daemon(beside: Beside, tmp_path: Path) -> None:
    """Import, pause and SQL work though the database is the daemon's."""
    (tmp_path / "docs.csv").write_text("doc_id,title,text\na,A,first\nb,B,second\n")
    assert beside.answer("import", "documents", str(tmp_path / "docs.csv"))["stored"] == 2
    assert beside.answer("sql", "select doc_id from documents order by 1") == [{"doc_id": "a"}, {"doc_id": "b"}]
    assert beside.answer("pause") == {"paused": True}
    assert beside.answer("status")["cycle"]["paused"] is True
    assert "nowhere" in beside.run("sql", "select * from nowhere", code=1).stderr


def test_a_threshold_changes_without_a_restart_and_is_written_down(beside: Beside) -> None:
    """`config set` is validated, holds in the file, and stands in `decisions` with who, from what and to what."""
    changed = beside.answer("config", "set", "retrain.min_new_pairs=400")
    assert (changed["from"], changed["to"], changed["live"]) == ("200", "400", True)
    (row,) = beside.answer("sql", "select kind, actor, reasons from decisions where kind = 'config'")
    assert "cli" in row["actor"]
    assert row["reasons"] == ["retrain.min_new_pairs was changed from 200 to 400."]
    assert "min_new_pairs = 400" in (beside.home / "flywheel.toml").read_text()
    assert "greater than" in beside.run("config", "set", "retrain.min_new_pairs=0", code=1).stderr
    assert "can be used" in beside.run("config", "check").stdout


def test_what_came_in_is_asked_through_the_daemon(beside: Beside) -> None:
    """Arrivals and dead letters are the daemon's own answers."""
    assert beside.answer("dead-letters", "list") == {"waiting": 0, "groups": []}
    assert beside.answer("dead-letters", "replay")["stored"] == 0
    assert set(beside.answer("doctor", "--events")) == {"since_minutes", "arrivals", "unknown_actions", "suggestion"}


def test_a_cycle_without_feedback_answers_with_its_reason(beside: Beside) -> None:
    """Nothing to learn from is a verdict with a reason, and no failure of the command."""
    answer = beside.answer("cycle", "--wait")
    assert {"trigger", "training_run", "candidate", "decision"} <= set(answer)
    assert answer["candidate"] is None
    assert {"verdict", "reasons", "evidence", "spent"} <= set(answer["decision"])
    assert answer["decision"]["reasons"]


def test_a_wrong_token_is_refused_with_the_setting_to_mend(beside: Beside) -> None:
    """Who has another token is told so; nothing is shown."""
    environ = beside.environ | {"FLYWHEEL__SERVING__TOKEN": "guess"}
    command = [*FLYWHEEL, "--home", str(beside.home), "models", "--json"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "token" in ran.stderr


def test_a_second_daemon_on_the_same_home_is_refused(beside: Beside) -> None:
    """It says which process serves the home, and leaves that one alone."""
    said = beside.run("run", code=1).stderr
    assert str(beside.process.pid) in said
    assert beside.process.poll() is None


def test_commands_that_ask_in_sql_go_through_the_daemon(beside: Beside, tmp_path: Path) -> None:
    """Plan, verdict by arm and exports are answered from the daemon's database; its rule says what satisfies."""
    (tmp_path / "ubi.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records()))
    beside.answer("import", "feedback", str(tmp_path / "ubi.ndjson"))
    beside.told = beside.ask()
    assert beside.told[0]["satisfied_ctr"]["rate"] == pytest.approx(len(SATISFIED) / 10)
    assert beside.told[3]["rows"] == 1
    assert "on held-out feedback" in beside.run("evaluate", "--feedback", code=1).stderr


def test_sigterm_stops_it_cleanly_within_ten_seconds(beside: Beside) -> None:
    """Exit 0 in time, and the home is free for commands of its own again."""
    started = time.monotonic()
    beside.process.send_signal(signal.SIGTERM)
    assert beside.process.wait(timeout=20) == 0
    assert time.monotonic() - started < 10
    assert beside.answer("sql", "select count(*) as n from documents") == [{"n": 2}]


def test_they_answer_the_same_without_a_daemon(beside: Beside) -> None:
    """The same statements, asked of the home itself."""
    assert beside.ask() == beside.told != []


def test_a_port_in_use_is_named_with_its_setting(beside: Beside) -> None:
    """The daemon does not start, and says which setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        beside.environ["FLYWHEEL__SERVING__PORT"] = str(taken.getsockname()[1])
        said = beside.run("run", code=1).stderr
    assert "serving.port" in said
    assert "Traceback" not in said


def test_the_step_of_a_training_is_read_from_its_own_file(tmp_path: Path) -> None:
    """Only a training of this call counts, and a half-written or foreign file is no step."""
    assert training_step(tmp_path, 0) is None
    (tmp_path / "v1.progress.json").write_text('{"step": 3, "steps": 60}')
    assert training_step(tmp_path, 0) == (3, 60)
    assert training_step(tmp_path, time.time() + 60) is None
    (tmp_path / "v1.progress.json").write_text('{"step": ')
    assert training_step(tmp_path, 0) is None


def test_an_import_says_the_same_beside_a_daemon(beside: Beside, tmp_path: Path) -> None:
    """A record that no JSON can carry is skipped with file and line, and the others are stored."""
    documents, feedback = tmp_path / "d.jsonl", tmp_path / "u.ndjson"
    documents.write_text(
        '{"doc_id": "v1", "text": "1"}\n{"doc_id": "v2", "text": "Cut \\ud83d here."}\n{"doc_id": "v3", "text": "3"}\n'
    )
    page = {"query_id": "n1", "user_query": "copy", "timestamp": 1_770_000_000_000}
    event = {"action_name": "click", "query_id": "n1", "timestamp": 1_770_000_001_000}
    spoilt = json.dumps(event | {"score": float("nan")})
    cut = json.dumps(event | {"agent": "cut \ud83d"})
    feedback.write_text(f"{json.dumps(page)}\n{spoilt}\n{cut}\n")
    for kind, file, said in (
        ("documents", documents, "text: half a character"),
        ("feedback", feedback, "not JSON: NaN"),
    ):
        answer = beside.answer("import", kind, str(file))
        assert (answer["read"], answer["stored"], answer["skipped"]) == (3, 2, 1)
        ((reason, places),) = answer["places"].items()
        assert reason.startswith(said)
        assert places == [f"{file.name}:2"]
