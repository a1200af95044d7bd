"""Titles of documents for result pages, from memory. `forget` is called for changed documents, which are read again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence


class TitleCache:
    """`read` fetches titles by doc_id; at most `size` of them are kept."""

    def __init__(self, read: Callable[[Sequence[str]], Mapping[str, str]], size: int = 1_000_000) -> None:
        self._read, self._size = read, size
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def titles(self, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> title; an unknown id is missing."""
        cached = self._known
        absent = [doc_id for doc_id in doc_ids if doc_id not in cached]
        if absent:
            fetched = self._read(absent)
            with self._lock:
                if len(self._known) + len(fetched) > self._size:
                    self._known = {}
                self._known.update(fetched)
            cached = {**cached, **fetched}
        return {doc_id: cached[doc_id] for doc_id in doc_ids if doc_id in cached}

    def forget(self, doc_ids: Sequence[str]) -> None:
        """Drop the titles of these documents, which changed."""
        with self._lock:
            for doc_id in doc_ids:
                self._known.pop(doc_id, None)
