"""A producer that never loses a message quietly: each message ends in its coordinates or in an error.

The library gives up for good after an error that it takes for fatal, such as one message that is too large for its
topic, and fails whatever is under way. So a client that failed is made anew, and what was under way is sent again one
by one: only the message that the broker refuses fails. A message may then be on its topic twice.

It consumes nothing (`consumers.kafka` does) and makes no topics (`flywheel.broker.admin` does).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.broker.connection import CONNECT_MS, BrokerUnavailable, MessageTooLarge, connected, probe
from flywheel.events import Coordinates
from flywheel.settings.load import Kafka

if TYPE_CHECKING:
    from kafka import KafkaProducer

MAX_PENDING = 200_000  # bounds the memory while the broker is away
BACKOFF_SECONDS = (0.1, 5.0)
_SETTLE_SECONDS = 0.2

Headers = list[tuple[str, bytes]]


@dataclass(slots=True)
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    deadline: float
    future: Future[Coordinates]
    number: int
    alone: bool = False  # it was under way when a client failed, and is sent by itself to see whether it was the reason
    settled: threading.Event = field(default_factory=threading.Event)


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
        self._returned: list[_Outgoing] = []
        self._failed = threading.Event()
        self._pending = 0
        self._number = 0
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
            self._number += 1
            deadline = time.monotonic() + self._delivery_seconds
            self._queue.append(_Outgoing(topic, key, value, headers or [], deadline, future, self._number))
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
                self._changed.wait_for(lambda: self._queue or self._failed.is_set() or self._closing.is_set())
            try:
                self._drain()
                backoff = BACKOFF_SECONDS[0]
            except BrokerUnavailable as error:
                self.error = str(error)
                self._expire(str(error))
                self._closing.wait(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
        self._let_go()
        self._expire("the producer was closed first", everything=True)

    def _drain(self) -> None:
        """Hand everything queued to the library. What it does not take stays first in the queue."""
        if self._failed.is_set():
            self._let_go()
            self._take_back()
        if self._client is None:
            self._client = self._connect()
        while self._queue and not self._closing.is_set() and not self._failed.is_set():
            self._hand_over(self._client, self._queue[0])

    def _hand_over(self, client: KafkaProducer, outgoing: _Outgoing) -> None:
        from kafka.errors import KafkaError

        try:
            delivery = client.send(outgoing.topic, outgoing.value, outgoing.key, outgoing.headers)
        except (ValueError, TypeError) as error:
            self._finish(self._queue.popleft(), BrokerUnavailable(f"not a message for {outgoing.topic}: {error}"))
        except KafkaError as error:
            self._refused(outgoing, error)
        else:
            self._queue.popleft()
            self.error = None
            delivery.add_callback(lambda metadata: self._finish(outgoing, _coordinates(metadata)))
            delivery.add_errback(lambda error: self._undelivered(outgoing, error))
            while outgoing.alone and not outgoing.settled.wait(_SETTLE_SECONDS) and not self._closing.is_set():
                pass  # the library ends every message within its delivery time

    def _undelivered(self, outgoing: _Outgoing, error: BaseException) -> None:
        """The library's own thread tells. An error after which its client goes on ends the message; another one ends
        the client, and the message only if nothing else can have been the reason."""
        from kafka.errors import RetriableError

        if isinstance(error, RetriableError):  # it was tried again until its time was up
            self._finish(outgoing, self._explain(outgoing, error))
            return
        with self._changed:
            again = not outgoing.alone and not self._closing.is_set() and time.monotonic() < outgoing.deadline
            if again:
                outgoing.alone = True
                self._returned.append(outgoing)
            self._failed.set()
            self._changed.notify_all()
        if not again:
            self._finish(outgoing, self._explain(outgoing, error))

    def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=1)  # what it still has comes back through `_undelivered`

    def _take_back(self) -> None:
        """Put what the failed client had first in the queue, in the order of `send`."""
        with self._changed:
            self._failed.clear()
            self._returned.sort(key=lambda outgoing: outgoing.number)
            self._queue.extendleft(reversed(self._returned))
            self._returned.clear()

    def _refused(self, outgoing: _Outgoing, error: Exception) -> None:
        """The library took nothing. End this message, or raise so that it is tried again after a while."""
        from kafka.errors import KafkaTimeoutError

        if _is_too_large(error):
            self._finish(self._queue.popleft(), self._explain(outgoing, error))
            return
        if isinstance(error, KafkaTimeoutError):  # no metadata: the broker is away, or it knows no such topic
            probe(self._settings)
            self._finish(self._queue.popleft(), self._explain(outgoing, error))
            return
        self._let_go()
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
        if everything:
            self._take_back()
        # the oldest come first: all have the same time to be delivered
        while self._queue and (everything or self._queue[0].deadline <= now):
            self._finish(self._queue.popleft(), BrokerUnavailable(f"not delivered: {reason}"))

    def _explain(self, outgoing: _Outgoing, error: BaseException) -> BrokerUnavailable:
        if _is_too_large(error):
            return MessageTooLarge(
                f"{len(outgoing.value)} bytes are more than topic {outgoing.topic} takes; send less, or raise its "
                "max.message.bytes"
            )
        return BrokerUnavailable(
            f"not delivered to {outgoing.topic} at {self._settings.bootstrap}: {type(error).__name__}: {error}"
        )

    def _finish(self, outgoing: _Outgoing, outcome: Coordinates | BrokerUnavailable) -> None:
        if isinstance(outcome, BrokerUnavailable):
            if not isinstance(outcome, MessageTooLarge):  # that says nothing of the broker
                self.error = str(outcome)
            outgoing.future.set_exception(outcome)
        else:
            outgoing.future.set_result(outcome)
        outgoing.settled.set()
        with self._changed:
            self._pending -= 1
            if self._pending == 0:
                self._changed.notify_all()


def _is_too_large(error: BaseException) -> bool:
    from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)


def _coordinates(metadata: Any) -> Coordinates:
    return Coordinates(metadata.topic, metadata.partition, metadata.offset)
