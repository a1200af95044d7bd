"""The log: one line for people or one object for collectors, and no warning many times a minute."""

from __future__ import annotations

import json
import logging
import sys

from flywheel.daemon.logs import JsonLines, NotAgain


def _record(message: str, level: int = logging.WARNING, name: str = "flywheel.x", *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, values, None)


def test_twenty_minutes_without_a_broker_are_twenty_lines() -> None:
    """The same warning, each second for 20 minutes with another figure in it, is told once a minute."""
    now = [0.0]
    filtered = NotAgain(60.0, lambda: now[0])
    told = 0
    for second in range(1_200):
        now[0] = float(second)
        told += filtered.filter(_record("%s: away; again in %.0f s", logging.WARNING, "flywheel.r", "announce", second))
    assert told == 20


def test_every_handler_gets_the_same_answer() -> None:
    """A record that standard error has shown goes into the file too."""
    filtered, record = NotAgain(60.0, lambda: 0.0), _record("away")
    assert filtered.filter(record)
    assert filtered.filter(record)
    assert not filtered.filter(_record("away"))


def test_information_is_never_held_back() -> None:
    """Decisions are told each time; only warnings and errors wait."""
    filtered = NotAgain(60.0, lambda: 0.0)
    assert all(filtered.filter(_record("decided", logging.INFO)) for _ in range(5))


def test_a_line_is_an_object() -> None:
    """With `logs.format = "json"` each line has time, level, thread, logger and message, and a traceback as text."""
    try:
        open("")  # noqa: SIM115, PTH123 - it raises
    except OSError:
        record = logging.LogRecord("flywheel.x", logging.ERROR, __file__, 1, "%s failed", ("it",), sys.exc_info())
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "flywheel.x", "it failed")
    assert "FileNotFoundError" in line["error"]
    assert line["ts"].endswith("+00:00")


def test_a_line_carries_the_ids_that_it_is_found_by() -> None:
    """Run, version, experiment and decision stand beside the words, under the names of the tables; others do not."""
    record = _record("v2 takes over from v1", logging.INFO)
    record.__dict__ |= {"run_id": "run-7", "version": "v2", "experiment_id": None, "secret": "x"}
    line = json.loads(JsonLines().format(record))
    assert (line["run_id"], line["version"]) == ("run-7", "v2")
    assert not {"experiment_id", "secret", "decision_id"} & line.keys()
