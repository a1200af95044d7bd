"""Shares one `Lexical` of the collection: it is built at the first use, and anew after documents changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from flywheel.clicks.evidence import Evidence, Floats
from flywheel.retrieval.bm25 import Lexical


class Texts(Protocol):
    """Where documents come from; `flywheel.store.store.Store.documents` fulfils it."""

    def last_change(self) -> int: ...

    def count(self) -> int: ...

    def ids(self) -> list[str]: ...

    def contents(self, doc_ids: Sequence[str]) -> Mapping[str, str]: ...


class Words:
    """Holds one `Lexical` of at most `limit` documents; safe to call from any thread."""

    def __init__(self, documents: Texts, limit: int) -> None:
        self._documents, self._limit = documents, limit
        self._lock = threading.Lock()
        self._made: tuple[int, Lexical | None] = (-1, None)

    def now(self) -> Lexical | None:
        """The present collection by its words; None if it is empty, or larger than `limit`."""
        with self._lock:
            change = self._documents.last_change()  # built under the lock, so that threads do not build it twice
            if self._made[0] != change:
                self._made = (change, self._build())
            return self._made[1]

    def scores(self, evidence: Evidence, texts: Sequence[str]) -> Floats | None:
        """BM25 (pairs,) of each pair; `texts` are the evidence's queries as people typed them. None as for `now`."""
        lexical = self.now()
        if lexical is None:
            return None
        documents = [evidence.documents[document] for document in evidence.pair_document]
        return lexical.scores(texts, evidence.pair_query, documents)

    def _build(self) -> Lexical | None:
        if not 0 < self._documents.count() <= self._limit:
            return None
        ids = self._documents.ids()
        texts = self._documents.contents(ids)
        present = [doc_id for doc_id in ids if doc_id in texts]  # some may have been deleted since
        return Lexical(present, [texts[doc_id] for doc_id in present])
