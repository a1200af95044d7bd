"""Hands the HTTP API's messages to the broker, and returns once the broker has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from flywheel.broker.connection import BrokerUnavailable, MessageTooLarge
from flywheel.broker.producer import Producer
from flywheel.events import Coordinates
from flywheel.serving.services import NotAcknowledged, TooLarge, TopicKind
from flywheel.settings.load import Kafka

# handed over before other requests get their turn again
_AT_A_TIME = 100
_MOST_WAITING_BYTES = 256 * 1024 * 1024  # of messages that the broker has not confirmed


class BrokerPublisher:
    """Fulfils `flywheel.serving.services.EventPublisher` with the producer. One event loop uses it."""

    def __init__(self, producer: Producer, settings: Kafka) -> None:
        self._producer = producer
        self._topics = {"queries": settings.topic_queries, "events": settings.topic_events}
        self._waiting_bytes = 0

    async def publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        """Return once the broker has acknowledged all of them; see the protocol."""
        if not payloads:
            return
        size = sum(map(len, payloads))
        if self._waiting_bytes + size > _MOST_WAITING_BYTES:
            raise NotAcknowledged(f"{self._waiting_bytes >> 20} MB wait for the broker already")
        loop = asyncio.get_running_loop()
        outcome = _Confirmations(loop, len(payloads))
        self._waiting_bytes += size
        outcome.settled.add_done_callback(lambda _: self._forget(size))
        for start in range(0, len(payloads), _AT_A_TIME):
            for number, payload in enumerate(payloads[start : start + _AT_A_TIME], start):
                sent = self._producer.send(self._topics[kind], None, payload)
                sent.add_done_callback(partial(outcome.count, number))
            await asyncio.sleep(0)
        # shielded: a caller that waits no longer leaves the messages on their way, and their bytes counted
        failed = await asyncio.shield(outcome.settled)
        for error in failed.values():
            if isinstance(error, BrokerUnavailable) and not isinstance(error, MessageTooLarge):
                raise NotAcknowledged(str(error)) from error
            if not isinstance(error, MessageTooLarge):
                raise error
        if failed:
            raise TooLarge({number: str(failed[number]) for number in sorted(failed)})

    def _forget(self, size: int) -> None:
        self._waiting_bytes -= size


class _Confirmations:
    """Counts the messages of one request, from any thread; `settled` gets the errors by number."""

    def __init__(self, loop: asyncio.AbstractEventLoop, messages: int) -> None:
        self._loop = loop
        self._left = messages
        self._failed: dict[int, BaseException] = {}
        self._lock = threading.Lock()
        self.settled: asyncio.Future[dict[int, BaseException]] = loop.create_future()

    def count(self, number: int, message: Future[Coordinates]) -> None:
        error = message.exception()
        with self._lock:
            self._left -= 1
            if error is not None:
                self._failed[number] = error
            if self._left:
                return
        try:
            self._loop.call_soon_threadsafe(self.settled.set_result, self._failed)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return
