"""The periodic jobs of the daemon: each keeps its last error, so that one that fails or hangs is no silent stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from flywheel.settings.load import ConfigError

log = logging.getLogger(__name__)

# a job that could not start on time still runs, however late, and never twice at once
_JOB = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


class Jobs:
    """A scheduler whose jobs are watched.

    Attributes:
        errors: by job, why its last run failed, or for how long it has been running although the next one is due.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults=_JOB)
        self._scheduler.add_listener(self._late, EVENT_JOB_MAX_INSTANCES)
        self._seconds, self._started = seconds, dict[str, float]()
        self.errors: dict[str, str] = {}

    def every(self, name: str, seconds: float, job: Callable[[], object]) -> None:
        """Run `job` each so many seconds."""
        self._scheduler.add_job(self.watched(name, job), "interval", seconds=seconds, id=name)

    def cron(self, line: str, job: Callable[[], object]) -> None:
        """Run `job` at the times of a crontab line, in UTC.

        Raises:
            ConfigError: it is no crontab line.
        """
        self._scheduler.add_job(job, crontab(line), id="cron")

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def watched(self, name: str, job: Callable[[], object]) -> Callable[[], None]:
        """The job, with its error kept and told once, not at each repetition."""

        def run() -> None:
            self._started[name] = self._seconds()
            try:
                job()
            except Exception as error:
                words = f"{type(error).__name__}: {error}"
                if self.errors.get(name) != words:
                    log.exception("%s failed; it is tried again at its next time", name)
                self.errors[name] = words
            else:
                if self.errors.pop(name, None) is not None:
                    log.info("%s works again", name)
            finally:
                self._started.pop(name, None)

        return run

    def _late(self, event: Any) -> None:
        """The next run of a job is due, and the last one has not ended."""
        started = self._started.get(event.job_id)
        if started is not None:
            words = f"it has been running for {self._seconds() - started:.0f} s, longer than the time between two runs"
            if event.job_id not in self.errors:
                log.warning("%s: %s; the next run waits for it", event.job_id, words)
            self.errors[event.job_id] = words


def crontab(line: str) -> CronTrigger:
    """The times of a crontab line.

    Raises:
        ConfigError: it is no crontab line.
    """
    try:
        return CronTrigger.from_crontab(line, timezone=UTC)
    except ValueError as error:
        raise ConfigError(f"retrain.cron {line!r} is no crontab line: {error}") from error
