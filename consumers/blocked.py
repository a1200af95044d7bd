"""Partitions that stand still, because what lies there cannot be unpacked, so that all the others go on.

An unknown compression or a damaged batch is such a case. It decides nothing about messages: those were not seen yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0  # how often a partition that cannot be unpacked is tried again
Place = tuple[str, int]


@dataclass(slots=True)
class _Standstill:
    """Which partition, why it stands still, when it is tried again, and where its log ended lately."""

    partition: Any
    reason: str
    again: float
    end: int | None = None


class Blocked:
    """Leaves out and takes back partitions of one consumer of the library."""

    def __init__(self) -> None:
        self._places: dict[Place, _Standstill] = {}

    @property
    def reasons(self) -> Mapping[Place, str]:
        """Why each of them stands still."""
        return {place: standstill.reason for place, standstill in self._places.items()}

    def block(self, consumer: Any, words: str) -> bool:
        """Leave out the partition that the consumer was unpacking; False where it was unpacking none."""
        # the library does not say in public which partition it was unpacking
        unpacking = getattr(getattr(consumer, "_fetcher", None), "_next_partition_records", None)
        if unpacking is None:
            return False
        partition = unpacking.topic_partition
        place = (partition.topic, partition.partition)
        reason = f"{place[0]}/{place[1]} stands still at offset {unpacking.next_fetch_offset}: {words}"
        if reason != self.reasons.get(place):
            log.error("%s; the other partitions go on", reason)
        self._places[place] = _Standstill(partition, reason, time.monotonic() + AGAIN_SECONDS)
        consumer.pause(partition)
        unpacking.drain()  # what failed once gives nothing more, and is to be fetched anew
        return True

    def look(self, consumer: Any) -> None:
        """Ask how far their logs have grown, since nothing of them is fetched, and try each again now and then."""
        if not self._places:
            return
        ends = consumer.end_offsets([standstill.partition for standstill in self._places.values()], timeout_ms=5_000)
        for standstill in self._places.values():
            standstill.end = ends.get(standstill.partition)
            if time.monotonic() >= standstill.again:
                consumer.resume(standstill.partition)

    def read(self, place: Place) -> None:
        """Messages of this one came: it stands still no longer."""
        self._places.pop(place, None)

    def end(self, place: Place) -> int | None:
        """Where its log ended lately; None for a partition that goes on."""
        standstill = self._places.get(place)
        return None if standstill is None else standstill.end


def in_words(error: Exception) -> str:
    """The error with what to do about it."""
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "UnsupportedCodecError":
        return f"{text}; install the library (`pip install 'kafka-python[lz4,snappy,zstd]'`) and start again"
    return text
