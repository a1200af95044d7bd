"""A producer that never loses a message quietly: each message ends in its coordinates or in an error.

It consumes nothing (`consumers.kafka` does) and makes no topics (`flywheel.broker.admin` does).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.broker.connection import CONNECT_MS, BrokerUnavailable, connected, probe
from flywheel.events import Coordinates
from flywheel.settings.load import Kafka

if TYPE_CHECKING:
    from kafka import KafkaProducer

MAX_PENDING = 200_000  # bounds the memory while the broker is away
BACKOFF_SECONDS = (0.1, 5.0)

Headers = list[tuple[str, bytes]]


@dataclass(slots=True)
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    deadline: float
    future: Future[Coordinates]


class Producer:
    """Sends with acks=all and idempotence. Each message has a future that ends in its coordinates or an error.

    It never blocks its caller, so an event loop may call it. Its own thread connects and hands messages over in the
    order of `send`. The thread connects again, with backoff, as long as a message may wait.
    """

    def __init__(self, settings: Kafka, *, delivery_seconds: float = 60.0, linger_ms: int = 2) -> None:
        self._settings = settings
        self._delivery_seconds = delivery_seconds
        self._linger_ms = linger_ms
        self._queue: deque[_Outgoing] = deque()
        self._pending = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._client: KafkaProducer | None = None
        self.error: str | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-producer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Messages that are neither acknowledged nor failed yet."""
        return self._pending

    def send(self, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None) -> Future[Coordinates]:
        """Hand over one message. The future fails with `BrokerUnavailable` if it was not delivered in time.

        Cancelling the future does not stop delivery.
        """
        future: Future[Coordinates] = Future()
        future.set_running_or_notify_cancel()  # running, it cannot be cancelled and always takes its outcome
        with self._changed:
            if self._closing.is_set():
                future.set_exception(BrokerUnavailable("the producer is closed"))
                return future
            if self._pending >= MAX_PENDING:
                future.set_exception(
                    BrokerUnavailable(f"{self._pending} messages wait for the broker already: {self.error or 'busy'}")
                )
                return future
            self._pending += 1
            deadline = time.monotonic() + self._delivery_seconds
            self._queue.append(_Outgoing(topic, key, value, headers or [], deadline, future))
            self._changed.notify_all()
        return future

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every message so far is acknowledged or has failed. False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is left within `timeout`, fail the rest, and close the connection. May be called twice."""
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(max(0.5, deadline - time.monotonic()))

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        backoff = BACKOFF_SECONDS[0]
        while not self._closing.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing.is_set())
            try:
                self._drain()
                backoff = BACKOFF_SECONDS[0]
            except BrokerUnavailable as error:
                self.error = str(error)
                self._expire(str(error))
                self._closing.wait(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
        if self._client is not None:
            self._client.close(timeout=1)
        self._expire("the producer was closed first", everything=True)

    def _drain(self) -> None:
        """Hand everything queued to the library. What it does not take stays first in the queue."""
        from kafka.errors import KafkaError

        if self._client is None:
            self._client = self._connect()
        while self._queue and not self._closing.is_set():
            outgoing = self._queue[0]
            try:
                delivery = self._client.send(outgoing.topic, outgoing.value, outgoing.key, outgoing.headers)
            except (ValueError, TypeError) as error:
                self._finish(self._queue.popleft(), BrokerUnavailable(f"not a message for {outgoing.topic}: {error}"))
                continue
            except KafkaError as error:
                self._refused(outgoing, error)
                continue
            self._queue.popleft()
            self.error = None
            delivery.add_callback(lambda metadata, sent=outgoing: self._finish(sent, _coordinates(metadata)))
            delivery.add_errback(lambda error, sent=outgoing: self._finish(sent, self._explain(sent, error)))

    def _refused(self, outgoing: _Outgoing, error: Exception) -> None:
        """The library took nothing. End this message, or raise so that it is tried again after a while."""
        from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

        if isinstance(error, MessageSizeTooLargeError):
            self._finish(self._queue.popleft(), self._explain(outgoing, error))
            return
        if isinstance(error, KafkaTimeoutError):  # no metadata: the broker is away, or it knows no such topic
            probe(self._settings)
            self._finish(self._queue.popleft(), self._explain(outgoing, error))
            return
        if self._client is not None:
            self._client.close(timeout=1)
            self._client = None
        raise self._explain(outgoing, error)

    def _connect(self) -> KafkaProducer:
        from kafka import KafkaProducer

        delivery_ms = int(self._delivery_seconds * 1_000)
        return connected(
            KafkaProducer,
            self._settings,
            acks="all",
            enable_idempotence=True,
            linger_ms=self._linger_ms,
            batch_size=131_072,
            max_request_size=8 * 1_048_576,
            delivery_timeout_ms=delivery_ms,
            # the library wants no more than delivery_timeout_ms less linger_ms
            request_timeout_ms=max(1_000, min(10_000, delivery_ms - self._linger_ms)),
            max_block_ms=CONNECT_MS,
            reconnect_backoff_max_ms=2_000,
            metadata_max_age_ms=60_000,
        )

    def _expire(self, reason: str, *, everything: bool = False) -> None:
        now = time.monotonic()
        # the oldest come first: all have the same time to be delivered
        while self._queue and (everything or self._queue[0].deadline <= now):
            self._finish(self._queue.popleft(), BrokerUnavailable(f"not delivered: {reason}"))

    def _explain(self, outgoing: _Outgoing, error: BaseException) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"not delivered to {outgoing.topic} at {self._settings.bootstrap}: {type(error).__name__}: {error}"
        )

    def _finish(self, outgoing: _Outgoing, outcome: Coordinates | BrokerUnavailable) -> None:
        if isinstance(outcome, BrokerUnavailable):
            self.error = str(outcome)
            outgoing.future.set_exception(outcome)
        else:
            outgoing.future.set_result(outcome)
        with self._changed:
            self._pending -= 1
            if self._pending == 0:
                self._changed.notify_all()


def _coordinates(metadata: Any) -> Coordinates:
    return Coordinates(metadata.topic, metadata.partition, metadata.offset)
