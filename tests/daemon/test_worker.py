"""Turns of the wheel run one at a time, and whoever waits for one gets its answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flywheel.daemon.worker import CycleWorker
from flywheel.operations import OperationError


class Wheel:
    """A cycle that answers with its trigger, once it is let go."""

    def __init__(self) -> None:
        self.go, self.turns, self.resumed = threading.Event(), [], 0

    def resume(self) -> None:
        self.resumed += 1

    def turn(self, trigger: str, tier: str | None) -> dict[str, Any]:
        assert self.go.wait(5)
        self.turns.append(trigger)
        if trigger == "bad":
            raise OperationError("it broke")
        if trigger == "worse":
            raise RuntimeError("no memory")
        return {"trigger": trigger, "tier": tier}


@pytest.fixture
def wheel() -> Wheel:
    return Wheel()


@pytest.fixture
def worker(wheel: Wheel):
    stop = threading.Event()
    worker = CycleWorker(wheel, stop)
    worker.start()
    yield worker
    wheel.go.set()
    stop.set()
    worker.join(5)
    assert not worker.is_alive()


def test_each_request_gets_its_own_answer_in_turn(worker: CycleWorker, wheel: Wheel) -> None:
    """Two different requests run one after the other; what was unfinished is resumed first."""
    first, second = worker.request("manual"), worker.request("new_pairs", "adapter")
    wheel.go.set()
    assert first.result(5) == {"trigger": "manual", "tier": None}
    assert second.result(5)["tier"] == "adapter"
    assert (wheel.resumed, wheel.turns) == (1, ["manual", "new_pairs"])


def test_equal_requests_that_wait_share_one_turn(worker: CycleWorker, wheel: Wheel) -> None:
    """Asking thrice for the same while one runs queues it once."""
    worker.request("running")
    while worker.current != "running":
        pass
    futures = {id(worker.request("manual")) for _ in range(3)}
    wheel.go.set()
    assert len(futures) == 1


def test_a_failed_turn_tells_its_asker_and_the_next_one_runs(worker: CycleWorker, wheel: Wheel) -> None:
    """An error reaches the future that asked, and the thread lives on."""
    wheel.go.set()
    with pytest.raises(OperationError, match="it broke"):
        worker.request("bad").result(5)
    assert worker.request("good").result(5)["trigger"] == "good"


def test_the_cause_of_a_failure_reaches_the_asker(worker: CycleWorker, wheel: Wheel) -> None:
    """Whatever ended a turn, over HTTP too the answer says what it was."""
    wheel.go.set()
    with pytest.raises(OperationError, match="no memory"):
        worker.request("worse").result(5)


def test_a_worker_that_stops_before_it_began_refuses_what_waits(wheel: Wheel) -> None:
    """A stop while the champion is still being indexed leaves nobody waiting."""
    stop = threading.Event()
    worker = CycleWorker(wheel, stop, idle=lambda: False)
    waiting = worker.request("manual")
    worker.start()
    stop.set()
    with pytest.raises(OperationError, match="stopping"):
        waiting.result(5)


def test_a_stopping_worker_refuses_what_still_waits(wheel: Wheel) -> None:
    """Nobody waits for ever on a daemon that stops."""
    stop = threading.Event()
    worker = CycleWorker(wheel, stop)
    waiting = worker.request("manual")
    stop.set()
    worker.start()
    with pytest.raises(OperationError, match="stopping"):
        waiting.result(5)
