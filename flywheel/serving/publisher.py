"""Waits on the event loop for the acknowledgements of a producer that works on threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from flywheel.serving.services import NotAcknowledged, TopicKind


class Sender(Protocol):
    """The part of `flywheel.broker.Producer` that this uses: never blocks, and every future ends."""

    def send(self, topic: str, key: bytes | None, value: bytes) -> Future[Any]: ...


class TopicPublisher:
    """An `EventPublisher` that knows which topic is which."""

    def __init__(self, sender: Sender, topics: Mapping[TopicKind, str]) -> None:
        self._sender = sender
        self._topics = dict(topics)

    async def publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        topic = self._topics[kind]
        sent = [asyncio.wrap_future(self._sender.send(topic, None, payload)) for payload in payloads]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failed:
            raise NotAcknowledged(f"{len(failed)} of {len(payloads)} messages: {failed[0]}") from failed[0]
