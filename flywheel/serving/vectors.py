"""Query vectors, cached by (version, text), and encoded together when many threads ask at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.serving.served import Ranker

Vector = NDArray[np.float32]
_LARGEST_BATCH = 64  # bounds how long a query waits for those encoded with it


@dataclass(slots=True, eq=False)
class _Ticket:
    """One thread's request for a vector; the next thread to encode fulfils it."""

    ranker: Ranker
    text: str
    vector: Vector | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.vector is not None or self.error is not None


class QueryVectors:
    """Thread-safe. One thread at a time encodes, for all that wait, so that torch gets batches instead of many callers.

    There is no worker to start or stop. A thread that gets the encoding lock encodes what has queued up meanwhile, and
    the others find their vectors ready when they get the lock.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._remembered: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._waiting: deque[_Ticket] = deque()
        self._bookkeeping = threading.Lock()
        self._encoding = threading.Lock()
        self.hits = 0
        self.misses = 0
        self.batches = 0

    def vector(self, ranker: Ranker, text: str) -> Vector:
        """The unit vector of `text`, shape (dimension,), read-only by convention."""
        key = (ranker.version, text)
        with self._bookkeeping:
            cached = self._remembered.get(key)
            if cached is not None:
                self._remembered.move_to_end(key)
                self.hits += 1
                return cached
            self.misses += 1
            ticket = _Ticket(ranker, text)
            self._waiting.append(ticket)
        with self._encoding:
            while not ticket.done and (batch := self._next_batch()):
                self._encode(batch)
        if ticket.vector is None:
            raise ticket.error or RuntimeError("the encoder gave no vector")
        return ticket.vector

    def forget_all_but(self, versions: set[str]) -> None:
        """Drop the vectors of models that are no longer served."""
        with self._bookkeeping:
            for key in [key for key in self._remembered if key[0] not in versions]:
                del self._remembered[key]

    def _next_batch(self) -> list[_Ticket]:
        with self._bookkeeping:
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_BATCH))]

    def _encode(self, tickets: list[_Ticket]) -> None:
        by_version: dict[str, list[_Ticket]] = defaultdict(list)
        for ticket in tickets:
            by_version[ticket.ranker.version].append(ticket)
        for same in by_version.values():
            texts = list(dict.fromkeys(ticket.text for ticket in same))
            try:
                vectors = dict(zip(texts, same[0].ranker.encoder.encode_queries(texts), strict=True))
            except Exception as error:  # noqa: BLE001 - raised again in every thread that waits for this batch
                for ticket in same:
                    ticket.error = error
                continue
            self.batches += 1
            for ticket in same:
                ticket.vector = np.array(vectors[ticket.text], dtype=np.float32)
            self._remember(same)

    def _remember(self, tickets: list[_Ticket]) -> None:
        with self._bookkeeping:
            for ticket in tickets:
                if ticket.vector is not None:
                    self._remembered[ticket.ranker.version, ticket.text] = ticket.vector
            while len(self._remembered) > self._capacity:
                self._remembered.popitem(last=False)
