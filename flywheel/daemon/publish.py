"""Hands the HTTP API's messages to the broker, and returns once the broker has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flywheel.broker.connection import BrokerUnavailable, MessageTooLarge
from flywheel.broker.producer import Producer
from flywheel.serving.services import NotAcknowledged, TooLarge, TopicKind
from flywheel.settings.load import Kafka


class BrokerPublisher:
    """Fulfils `flywheel.serving.services.EventPublisher` with the producer."""

    def __init__(self, producer: Producer, settings: Kafka) -> None:
        self._producer = producer
        self._topics = {"queries": settings.topic_queries, "events": settings.topic_events}

    async def publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        """Return once the broker has acknowledged all of them; see the protocol."""
        futures = [self._producer.send(self._topics[kind], None, payload) for payload in payloads]
        answers = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        failed = {number: answer for number, answer in enumerate(answers) if isinstance(answer, BaseException)}
        for error in failed.values():
            if isinstance(error, BrokerUnavailable) and not isinstance(error, MessageTooLarge):
                raise NotAcknowledged(str(error)) from error
            if not isinstance(error, MessageTooLarge):
                raise error
        if failed:
            raise TooLarge({number: str(error) for number, error in failed.items()})
