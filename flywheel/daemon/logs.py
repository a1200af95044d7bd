"""The daemon's log: a line for people or an object for collectors, and never the same warning many times a minute."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler

from flywheel.settings.home import Home
from flywheel.settings.watching import Logs

_BYTES, _KEPT = 10_000_000, 3
# The broker's client tells each attempt of each of its threads; ingestion says once that the broker went and came back.
# The scheduler tells of jobs by their number; `flywheel.daemon.jobs` tells of them by name.
_NOISY = ("kafka", "apscheduler")


IDS = ("run_id", "version", "experiment_id", "decision_id", "verdict", "query_id")
"""What a line can be found by, where it is about one of these; the same names as in the tables."""


class JsonLines(logging.Formatter):
    """A record as one JSON object: time, level, thread, logger, message, ids, and what went wrong."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "thread": record.threadName,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in IDS if record.__dict__.get(name) is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class NotAgain(logging.Filter):
    """Lets a warning or an error through once in `seconds`. Each handler may ask; all of them get the same answer."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds, self._clock = seconds, clock
        self._told: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if "told" not in record.__dict__:
            key, now = (record.name, str(record.msg)), self._clock()
            record.__dict__["told"] = now - self._told.get(key, -math.inf) >= self._seconds
            if record.__dict__["told"]:
                self._told[key] = now
        return bool(record.__dict__["told"])


def log_to(home: Home, settings: Logs) -> None:
    """Log to standard error and to logs/flywheel.log, which is rotated; libraries log warnings and errors only."""
    home.logs.mkdir(exist_ok=True)
    rotating = RotatingFileHandler(home.logs / "flywheel.log", maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
    handlers: list[logging.Handler] = [logging.StreamHandler(), rotating]
    words = logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s")
    again = NotAgain(settings.repeat_seconds)
    for handler in handlers:
        handler.setFormatter(JsonLines() if settings.format == "json" else words)
        handler.addFilter(again)
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    for ours in ("flywheel", "consumers"):
        logging.getLogger(ours).setLevel(logging.INFO)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
