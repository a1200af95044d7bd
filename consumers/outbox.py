"""Sends dead letters on to their topic, at least once, cut until they fit. The store has each exactly once."""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from flywheel.events import Batch, Coordinates, DeadLetter

DEAD_LETTER_SECONDS = 5.0  # the store has every dead letter, so ingestion does not wait long for their topic
# Kafka takes 1,048,588 bytes unless told otherwise, and the headers must find room in them
MOST_BYTES = 1_000_000
LEAST_BYTES = 1_024  # a topic that does not take so few takes nothing


class DeadLetterSender(Protocol):
    """Sends dead letters to their topic, as `flywheel.broker.producer.Producer` does.

    A future's error has a true `too_large` where the topic never takes a message of that size.
    """

    def send(
        self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]] | None = None
    ) -> Future[Any]: ...


@dataclass(slots=True)
class _Sent:
    at: Coordinates
    letter: DeadLetter
    size: int
    future: Future[Any]


class Outbox:
    """What is on its way to the topic. Without a sender, or a topic, nothing is sent."""

    def __init__(self, sender: DeadLetterSender | None, topic: str) -> None:
        self._sender = sender if topic else None
        self._topic = topic
        self._sent: list[_Sent] = []

    def send(self, batch: Batch) -> None:
        """Hand over the dead letters of a batch."""
        self._sent += [self._hand_over(at, letter, MOST_BYTES) for at, letter in batch.dead_letters if self._sender]

    def settle(self) -> tuple[int, str]:
        """Wait a while for what was sent. Returns how many did not arrive, and why one of them did not."""
        lost, reason = 0, ""
        while self._sent:
            wait([sent.future for sent in self._sent], timeout=DEAD_LETTER_SECONDS)
            waiting, self._sent = self._sent, []
            for sent in waiting:
                error = sent.future.exception() if sent.future.done() else TimeoutError("no acknowledgement in time")
                size = min(sent.size, len(sent.letter.payload)) // 2
                if getattr(error, "too_large", False) and size >= LEAST_BYTES:
                    self._sent.append(self._hand_over(sent.at, sent.letter, size))
                elif error is not None:
                    lost, reason = lost + 1, str(error)
        return lost, reason

    def forget(self) -> None:
        """Wait for none of them any longer."""
        self._sent = []

    def _hand_over(self, at: Coordinates, letter: DeadLetter, size: int) -> _Sent:
        assert self._sender is not None  # noqa: S101 - narrows for mypy; `send` asked
        headers = [
            ("reason", letter.reason.encode("utf-8", "replace")),
            ("topic", at.topic.encode()),
            ("partition", str(at.partition).encode()),
            ("offset", str(at.offset).encode()),
        ]
        payload = letter.payload[:size]
        if len(payload) < len(letter.payload):
            headers.append(("cut", str(len(letter.payload)).encode()))
        return _Sent(at, letter, size, self._sender.send(self._topic, None, payload, headers))
