"""Logs each served page to the broker. The answer waits for it briefly; delivery is tried until it succeeds."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from flywheel.serving.endpoints.ubi import iso
from flywheel.serving.served import Page
from flywheel.serving.services import EventPublisher, TooLarge

_log = logging.getLogger("flywheel.serving")
APPLICATION = "flywheel"
SPOOL_PAGES = 20_000  # bounds the memory while the broker is away
_BATCH_PAGES = 500
_ATTEMPT_SECONDS = 90.0  # for a producer that never answers; others give up earlier
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


def record(page: Page) -> dict[str, Any]:
    """The page as a UBI 1.3 query; nulls are left out."""
    attributes = {
        "model_version": page.model_version,
        "index_id": page.index_id,
        "experiment_id": page.experiment_id,
        "arm": page.arm,
        "propensities": page.propensities,
        "teams": page.teams,
        "explored": page.explored or None,
        "filters": page.filtered or None,
        "fair_pair": page.fair_pair,
        "latency_ms": round(page.latency_ms, 3),
        "session_id": page.session_id,
    }
    return {
        "application": APPLICATION,
        "query_id": page.query_id,
        **({"client_id": page.client_id} if page.client_id else {}),
        "user_query": page.text,
        "timestamp": iso(page.timestamp_ms),
        "query_response_hit_ids": [hit.doc_id for hit in page.hits],
        "query_attributes": {name: value for name, value in attributes.items() if value is not None},
    }


@dataclass(slots=True, eq=False)
class _Spooled:
    payload: bytes
    delivered: asyncio.Event = field(default_factory=asyncio.Event)


class PageLog:
    """Lives on one event loop. A page that the broker does not take now waits in a bounded spool and is tried again.

    Counts: `logged` pages reached the broker, `late` ones were answered before that, `lost` ones met a full spool, are
    more than the broker takes, or were still in the spool when the process stopped.
    """

    def __init__(self, publisher: EventPublisher, *, timeout_ms: int, spool_pages: int = SPOOL_PAGES) -> None:
        self._publisher = publisher
        self._timeout_seconds = timeout_ms / 1000
        self._spool_pages = spool_pages
        self._spool: deque[_Spooled] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._worker: asyncio.Task[None] | None = None
        self.logged = 0
        self.late = 0
        self.lost = 0

    @property
    def waiting(self) -> int:
        return len(self._spool)

    def counts(self) -> Mapping[str, int]:
        """Running totals, for the metrics."""
        return {"logged": self.logged, "late": self.late, "lost": self.lost}

    def start(self) -> None:
        """Start delivery, on the running loop."""
        self._worker = asyncio.create_task(self._deliver(), name="page log")

    async def stop(self, grace_seconds: float) -> None:
        """Deliver the rest within `grace_seconds`; pages that remain then count as lost."""
        try:
            async with asyncio.timeout(grace_seconds):
                await self._emptied.wait()
        except TimeoutError:
            self.lost += len(self._spool)
            _log.error("%d pages never reached the broker and are lost", len(self._spool))
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    async def log(self, page: Page) -> bool:
        """Hand the page over and wait briefly. Returns whether the broker has it."""
        if len(self._spool) >= self._spool_pages:
            self.lost += 1
            return False
        spooled = _Spooled(msgspec.json.encode(record(page)))
        self._spool.append(spooled)
        self._emptied.clear()
        self._filled.set()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await spooled.delivered.wait()
        except TimeoutError:
            self.late += 1
        return spooled.delivered.is_set()

    async def _deliver(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            await self._filled.wait()
            batch = list(islice(self._spool, _BATCH_PAGES))
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    await self._publisher.publish("queries", [spooled.payload for spooled in batch])
            except TooLarge as error:
                _log.error("%d pages are lost: %s", len(error.reasons), error)
                self._acknowledge(batch, lost=error.reasons.keys())
                continue
            except Exception as error:  # noqa: BLE001 - whatever it was, pages must go on being logged after it
                _log.warning("%d pages wait for the broker: %s", len(self._spool), str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            self._acknowledge(batch)

    def _acknowledge(self, batch: list[_Spooled], lost: Collection[int] = ()) -> None:
        for number, spooled in enumerate(batch):
            self._spool.popleft()  # the batch is still the head: only the delivery task removes pages
            if number not in lost:
                spooled.delivered.set()
        self.logged += len(batch) - len(lost)
        self.lost += len(lost)
        if not self._spool:
            self._filled.clear()
            self._emptied.set()
