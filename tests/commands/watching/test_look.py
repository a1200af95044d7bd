"""What people look at every day: one screen of 80 columns, a headline first, and hardly any processor time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flywheel.cli import main
from flywheel.commands.watching import screens
from flywheel.commands.watching.layout import ago, columns, figure, span
from flywheel.settings.home import Home

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STATUS: dict[str, Any] = {
    "ingest": {"queries": 12_345, "events": 6_789, "dead_letters": 3, "lag": 40, "rate": 12.3, "stalled_seconds": 0.0},
    "triggers": [],
    "cycle": {"paused": False, "running": None, "last": {"state": "done", "finished_at": "2026-03-01T10:00:00+00:00"}},
    "champion": {"version": "v3", "tier": "query_tower", "index_id": "i", "parent": "base"},
    "index": {"documents": 5_000, "pending": 0},
    "experiment": None,
    "experiments": {"queued": 0, "void": 0, "rolled_back": 0},
    "verdicts": {"promote": 2},
    "budget": {"next_alpha": 0.0123, "left": 0.5},
    "rates": {"ctr": 0.41, "satisfied_ctr": 0.283},
    "training": None,
    "uptime": 93_600.0,
    "ready": [],
    "problems": {},
}
CHECKS: list[dict[str, Any]] = [
    {"name": name, "value": value, "threshold": at, "fired": fired, "note": note, "ts": NOW.isoformat(), **more}
    for name, value, at, fired, note, more in (
        ("new_pairs", 0.0, 60.0, False, "new positive pairs: 0 of 60; 1,553 pages wait until events are 30 minutes "
         "newer than they are (signals.watermark_minutes)", {"last_fired": "2026-02-28T12:00:00+00:00"}),
        ("satisfied_ctr_drop", 0.213, 0.1, True, "relative CTR drop: 0.213 of 0.1", {"last_fired": NOW.isoformat()}),
        ("cron", None, None, False, "off: retrain.cron is not set", {}),
        ("running", None, None, True, "a run is going on", {}),
        ("disabled", None, None, True, "retrain.enabled is false: only `flywheel cycle` retrains", {}),
    )
]  # fmt: skip


def _fits(told: list[str]) -> None:
    assert max(len(line) for line in told) <= 80
    assert len(told) <= 24
    assert told[0].endswith(".")
    assert told[1] == ""


def test_status_is_one_screen_with_its_headline_first() -> None:
    """A healthy day says so in one sentence, with human units, in 80 columns; nothing is cut off."""
    told = screens.status(STATUS, NOW)
    _fits(told)
    words = "\n".join(told)
    assert told[0] == "All is well: v3 serves."
    assert "12,345 pages, 6,789 events, 3 that nobody could read; 40 wait" in words
    assert "28.3 % of pages satisfied" in words
    assert "last 2 h ago: done" in words
    assert "up for 1 d" in words
    assert "…" not in words


@pytest.mark.parametrize(
    ("changed", "headline"),
    [
        ({"uptime": None}, "No daemon runs on this home; v3 serves when `flywheel run` starts it."),
        ({"ready": ["the champion is being loaded"]}, "Searches are not answered yet: the champion is being loaded."),
        ({"problems": {"ingest": "3 MB are free"}}, "v3 serves, and ingest needs a look: see ! below."),
        ({"problems": {"a": "x", "b": "y"}}, "v3 serves, and a, b need a look: see ! below."),
        (
            {"cycle": STATUS["cycle"] | {"paused": True}},
            "v3 serves; learning is paused, and `flywheel resume` goes on.",
        ),
    ],
)
def test_the_headline_says_what_needs_a_look(changed: dict[str, Any], headline: str) -> None:
    """Whatever needs somebody is in the first line, and its words are below."""
    told = screens.status({**STATUS, **changed}, NOW)
    _fits(told)
    assert told[0] == headline
    for part, words in changed.get("problems", {}).items():
        assert any(line.startswith(f"! {part}") and words in line for line in told)


def test_triggers_are_a_line_each_with_why_not_now() -> None:
    """Value, threshold, when it last fired, why not now; what is off is not said to have fired."""
    told = screens.triggers(CHECKS, NOW, running=True)
    _fits(told)
    words = " ".join(" ".join(told).split())
    assert told[0].startswith("satisfied_ctr_drop asks for a training, which is held back: a run is going on")
    assert "new_pairs 0 60 1 d ago" in words
    assert "1,553 pages wait" in words
    assert "off: retrain.cron is not set" in words
    assert "fired yes" not in words


def test_nothing_runs_after_the_daemon_ended() -> None:
    """The last check of a daemon that ended is told as that, and nothing is said to be running."""
    told = " ".join(screens.triggers(CHECKS, NOW, running=False))
    assert told.startswith("No daemon runs, so nothing is checked; this is what was found")
    assert "a run is going on" not in told
    assert "retrain.enabled is false" in told, "a setting holds with and without a daemon"


def test_checks_of_an_earlier_daemon_are_told_as_such() -> None:
    """Just after a start nothing is said to be running that ran under the daemon before."""
    began = NOW + timedelta(seconds=5)
    told = " ".join(screens.triggers(CHECKS, NOW + timedelta(seconds=9), running=True, began=began))
    assert told.startswith("The daemon has just started and checks soon; this is what was found 9 s ago.")
    assert "a run is going on" not in told


def test_a_watch_over_a_promotion_is_no_trial() -> None:
    """Who serves is not "tried beside itself" while some people keep the one before it."""
    live = {"stage": "confirmation", "version": "v3", "champion": "v2", "share": 0.1, "started_at": NOW.isoformat()}
    told = screens.status({**STATUS, "experiment": live}, NOW)
    _fits(told)
    assert told[0] == "All is well: v3 serves, and some people keep v2 to see that it is better."
    assert "whether v3 is better than v2, which 10.0 % of the people keep" in " ".join(" ".join(told).split())


def test_models_and_doctor_begin_with_what_matters() -> None:
    """Who serves, and what is wrong, come first."""
    versions = [
        {"version": name, "alias": alias, "tier": "adapter", "parent": "base", "created_at": NOW.isoformat()}
        for name, alias in (("base", None), ("v1", "champion"), ("v2", "challenger"))
    ]
    told = screens.models(versions, NOW)
    _fits(told)
    assert told[0] == "v1 serves, and v2 is tried beside it; 3 versions."
    checks = [{"check": "home", "ok": True, "detail": "x"}, {"check": "broker", "ok": False, "detail": "a " * 120}]
    wrong = screens.doctor(checks)
    _fits(wrong)
    assert wrong[0] == "1 of 2 needs a look."
    assert wrong[2].startswith("NO  broker")


def test_times_and_figures_are_in_units_of_people() -> None:
    """The largest unit that fits, thousands apart, three digits; a long last column wraps within the width."""
    assert [span(seconds) for seconds in (0, 59, 61, 7_200, 260_000, None)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "3 d",
        "–",
    ]
    assert [ago(at, NOW) for at in (None, "2026-03-01T11:58:00+00:00", "2026-02-20T12:00:00")] == [
        "never",
        "2 min ago",
        "9 d ago",
    ]
    assert [figure(value) for value in (None, 12_000.0, 0.12345)] == ["–", "12,000", "0.123"]
    assert max(len(line) for line in columns([("a", "word " * 60)], ("name", "words"))) <= 80


def _seconds(*arguments: str, **environ: str) -> float:
    """Processor time of a process, the least of three."""
    measured = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], env={**os.environ, **environ}, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        measured.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(measured)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A home whose daemon answers as one does; here a server in this process."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            named = self.path.removeprefix("/v1/")
            answer = {"status": STATUS, "triggers": CHECKS, "models": []}[named]
            status = 200 if self.headers.get("Authorization") == "Bearer secret" else 401
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    home = Home(tmp_path / "home")
    home.init()
    (home.root / "flywheel.toml").write_text('[serving]\ntoken = "secret"\n')
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home.announce(f"http://127.0.0.1:{server.server_port}")
    yield home.root
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("command", ["status", "triggers", "models"])
def test_looking_takes_hardly_any_processor_time(daemon: Path, command: str) -> None:
    """Beside an interpreter that does nothing, asking a daemon costs under 0.4 s of processor time."""
    idle = _seconds("-c", "pass")
    asked = _seconds("-m", "flywheel.cli", "--home", str(daemon), command)
    assert asked < 0.4, f"{asked:.2f} s, and {idle:.2f} s for an interpreter alone"


def test_the_home_answers_as_it_was_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a daemon the answers that the last process left are given, until somebody writes to the database."""
    home = tmp_path / "home"
    assert main(["--home", str(home), "init"]) == 0
    (tmp_path / "docs.csv").write_text("doc_id,title,text\na,A,first\n")
    assert main(["--home", str(home), "import", "documents", str(tmp_path / "docs.csv")]) == 0
    capsys.readouterr()
    left = Home(home).left()
    assert left is not None
    assert main(["--home", str(home), "status", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == left["status"]
    assert (answer["index"]["documents"] + answer["index"]["pending"], answer["uptime"]) == (1, None)
    assert _seconds("-m", "flywheel.cli", "--home", str(home), "status") < 0.4
    os.utime(Home(home).database)
    assert Home(home).left() is None
