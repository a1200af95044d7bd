"""Runs turns of the wheel on a thread of their own, one at a time and in the order of the requests."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from flywheel.operations import Json, OperationError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A cycle that was asked for: by what, with which tier (None: the configured one), and the future of its answer."""

    trigger: str
    tier: str | None = None
    done: Future[Json] = field(default_factory=Future, compare=False)


class Turns(Protocol):
    """What the worker runs; `flywheel.learning.cycle.Cycle` fulfils it."""

    def resume(self) -> None:
        """Finish what an earlier process left unfinished."""

    def turn(self, trigger: str, tier: str | None) -> Json:
        """One whole cycle."""


class CycleWorker(threading.Thread):
    """Runs requests until stopped. A request that comes while an equal one waits shares that one's answer."""

    def __init__(self, cycle: Turns, stop: threading.Event, idle: Callable[[], bool] = lambda: True) -> None:
        super().__init__(name="cycle", daemon=True)
        self._cycle, self._stop_event, self._ready = cycle, stop, idle
        self._requests: queue.Queue[Request] = queue.Queue()
        self._waiting: list[Request] = []
        self._lock = threading.Lock()
        self.current: str | None = None

    def request(self, trigger: str, tier: str | None = None) -> Future[Json]:
        """Ask for one turn; the future carries its answer or its `OperationError`."""
        with self._lock:
            for waiting in self._waiting:
                if (waiting.trigger, waiting.tier) == (trigger, tier):
                    return waiting.done
            asked = Request(trigger, tier)
            self._waiting.append(asked)
        self._requests.put(asked)
        return asked.done

    @property
    def busy(self) -> bool:
        """Whether a turn is going on or waiting."""
        return self.current is not None or bool(self._waiting)

    def run(self) -> None:
        while not self._ready():
            if self._stop_event.wait(0.1):
                self._refuse_the_rest()
                return
        self._guard("resume", self._cycle.resume)
        while not self._stop_event.is_set():
            try:
                asked = self._requests.get(timeout=0.2)
            except queue.Empty:
                continue
            with self._lock:
                self._waiting.remove(asked)
            self._guard(asked.trigger, lambda asked=asked: self._answer(asked))  # type: ignore[misc]
        self._refuse_the_rest()

    def _guard(self, name: str, work: Callable[[], None]) -> None:
        self.current = name
        try:
            work()
        except Exception as error:  # the run's row has the reason; the thread must live on for the next turn
            if self._stop_event.is_set():
                log.info("cycle (%s) goes on at the next start: %s", name, error)
            else:
                log.exception("cycle (%s) failed", name)
        finally:
            self.current = None

    def _answer(self, asked: Request) -> None:
        try:
            asked.done.set_result(self._cycle.turn(asked.trigger, asked.tier))
        except OperationError as error:
            asked.done.set_exception(error)
            raise
        except BaseException as error:
            asked.done.set_exception(self._in_words(error))
            raise

    def _in_words(self, error: BaseException) -> OperationError:
        """The answer to the request: the cause, or that the daemon stops and the run goes on at its next start."""
        if self._stop_event.is_set():
            return OperationError(f"the daemon is stopping; the run goes on at its next start ({error})", "stopping")
        return OperationError(f"the cycle failed: {error}", "cycle_failed")

    def _refuse_the_rest(self) -> None:
        with self._lock:
            for asked in self._waiting:
                asked.done.set_exception(OperationError("the daemon is stopping; ask again once it runs", "stopping"))
            self._waiting.clear()
