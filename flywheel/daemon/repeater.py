"""One generic runner: repeats a step until it is stopped, and keeps its last error so that `status` can show it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)


class Repeater(threading.Thread):
    """A thread around `step`, which does one pass and returns the seconds to wait until the next.

    A step that raises is repeated after a growing pause. The error stays in `error` until a pass succeeds, so that no
    failure is silent. Set the stop event and call `wake` to end the wait at once.
    """

    def __init__(self, name: str, step: Callable[[], float], stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._stop_event = step, stop
        self._wake = threading.Event()
        self.error: str | None = None
        self.failures = 0

    def run(self) -> None:
        while not self._stop_event.is_set():
            pause = self._once()
            self._wake.wait(pause)
            self._wake.clear()

    def wake(self) -> None:
        """End the present wait now; a stop calls it too, so that the thread notices at once."""
        self._wake.set()

    def _once(self) -> float:
        try:
            pause = self._step()
        except Exception as error:
            self.failures += 1
            self.error = f"{type(error).__name__}: {error}"
            pause = _BACKOFF_SECONDS[min(self.failures, len(_BACKOFF_SECONDS)) - 1]
            expected = isinstance(error, OSError)  # a broker or a disk is away: the message is enough
            log.warning("%s: %s; again in %.0f s", self.name, self.error, pause, exc_info=None if expected else error)
        else:
            self.error, self.failures = None, 0
        return pause
