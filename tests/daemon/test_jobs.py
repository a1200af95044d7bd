"""A job that fails or hangs is named, once, until it works again."""

from __future__ import annotations

import logging
import threading

import pytest

from flywheel.daemon.jobs import Jobs
from flywheel.settings.load import ConfigError


def test_a_job_that_fails_is_named_until_it_works(caplog: pytest.LogCaptureFixture) -> None:
    """Its error stays in `errors` and is logged once, however often it comes back; a success takes it away."""
    jobs, failing = Jobs(), [True]

    def publish() -> None:
        if failing[0]:
            raise OSError("no room")

    run = jobs.watched("analytics", publish)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            run()
        assert jobs.errors == {"analytics": "OSError: no room"}
        failing[0] = False
        run()
    assert jobs.errors == {}
    told = [record.message for record in caplog.records if record.name == "flywheel.daemon.jobs"]
    assert len(told) == 2
    assert told[1] == "analytics works again"


def test_a_job_that_hangs_is_named_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """Where the next run is due and the last has not ended, the job is said to run for so long, not "instances"."""
    begun, end, named = threading.Event(), threading.Event(), threading.Event()
    jobs = Jobs(seconds=iter([0.0, *range(7, 500)]).__next__)

    def hang() -> None:
        begun.set()
        end.wait(30)

    jobs.every("triggers", 0.05, hang)
    with caplog.at_level(logging.WARNING):
        jobs.start()
        assert begun.wait(10)
        for _ in range(200):
            if "triggers" in jobs.errors:
                named.set()
                break
            threading.Event().wait(0.05)
        end.set()
        jobs.stop()
    assert named.is_set()
    assert sum("it has been running for" in record.message for record in caplog.records) == 1


def test_a_wrong_cron_line_is_an_error_that_names_it() -> None:
    """A line that is no crontab line is refused with the line in the message."""
    with pytest.raises(ConfigError, match="'every day' is no crontab line"):
        Jobs().cron("every day", lambda: None)
