"""The ids seen lately, so that a producer's retry is recognised without an index over everything ever stored."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice


class RecentIds:
    """Ids by their 64-bit hash with their event time, bounded by a window of event time and by number.

    An id is a repeat if its event time lies within `window_ms` of the remembered one, earlier or later. What `claim`
    marks stays provisional until `keep`, because the transaction that stores it may fail.
    """

    def __init__(self, window_ms: int, limit: int) -> None:
        self._window_ms = window_ms
        self._limit = limit
        # Python's own string hash has 64 bits and a new key in each process, so nobody can send collisions
        self._seen: dict[int, int] = {}
        self._claimed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def claim(self, identity: str, ts_ms: int) -> bool:
        """True the first time, False for a repeat."""
        key = hash(identity)
        earlier = self._claimed.get(key)
        if earlier is None:
            earlier = self._seen.get(key)
        if earlier is not None and abs(ts_ms - earlier) <= self._window_ms:
            return False
        self._claimed[key] = ts_ms
        return True

    def keep(self) -> None:
        """What was claimed is stored."""
        for key in self._claimed:
            # removed first, so that the dict keeps the order of arrival
            self._seen.pop(key, None)
        self._seen.update(self._claimed)
        self._claimed = {}
        # a quarter of slack, because cutting copies the whole dict
        if len(self._seen) > self._limit * 5 // 4:
            self._seen = dict(islice(self._seen.items(), len(self._seen) - self._limit, None))

    def drop(self) -> None:
        """What was claimed was not stored after all."""
        self._claimed = {}

    def load(self, rows: Iterable[tuple[str, int]]) -> None:
        """Rebuild from stored ids and times, the oldest arrival first."""
        self._seen.update((hash(identity), ts_ms) for identity, ts_ms in rows)

    def forget(self, identities: Iterable[str]) -> None:
        """Remove ids, as after an erasure."""
        for identity in identities:
            self._seen.pop(hash(identity), None)
