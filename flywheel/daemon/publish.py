"""Hands the HTTP API's messages to the broker, and returns once the broker has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flywheel.broker.connection import BrokerUnavailable
from flywheel.broker.producer import Producer
from flywheel.serving.services import NotAcknowledged, TopicKind
from flywheel.settings.load import Kafka


class BrokerPublisher:
    """Fulfils `flywheel.serving.services.EventPublisher` with the producer."""

    def __init__(self, producer: Producer, settings: Kafka) -> None:
        self._producer = producer
        self._topics = {"queries": settings.topic_queries, "events": settings.topic_events}

    async def publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        """Return once the broker has acknowledged all of them; see the protocol."""
        futures = [self._producer.send(self._topics[kind], None, payload) for payload in payloads]
        try:
            await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        except BrokerUnavailable as error:
            raise NotAcknowledged(str(error)) from error
