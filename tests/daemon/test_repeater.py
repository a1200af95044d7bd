"""The generic runner repeats, survives a bad pass visibly, and stops at once."""

from __future__ import annotations

import threading

from flywheel.daemon.repeater import Repeater


def test_a_failing_step_is_repeated_and_its_error_stays_visible_until_a_pass_succeeds() -> None:
    """An exception does not end the thread; it can be read from `error` until the next good pass."""
    stop, seen, good = threading.Event(), threading.Event(), threading.Event()
    outcomes = iter([ValueError("disk is on fire")])
    repeater = Repeater("test", lambda: 0.0, stop)

    def step() -> float:
        failure = next(outcomes, None)
        if failure is not None:
            seen.set()
            raise failure
        good.set()
        return 60.0

    repeater._step = step
    repeater.start()
    assert seen.wait(5)
    repeater.wake()
    assert good.wait(5)
    stop.set()
    repeater.wake()
    repeater.join(5)
    assert not repeater.is_alive()
    assert repeater.error is None


def test_a_stop_ends_a_long_wait_at_once() -> None:
    """A step that asked to wait for an hour does not keep a stopping daemon."""
    stop, ran = threading.Event(), threading.Event()
    repeater = Repeater("test", lambda: (ran.set(), 3600.0)[1], stop)
    repeater.start()
    assert ran.wait(5)
    stop.set()
    repeater.wake()
    repeater.join(5)
    assert not repeater.is_alive()
