"""Keeps an index equal to the documents in the store: embeds changed ones, removes deleted ones, and saves.

One pass is one `step`, and the next goes on where it ended. It never touches the indexes of other vector spaces.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.index import Index, saved_count

log = logging.getLogger(__name__)

_EMBED_AT_ONCE = 512
_SAVE_EVERY = 4_096  # changes: a crash costs about that many embeddings


class Stopped(Exception):  # noqa: N818 - reads as what happened
    """The process is ending; the next one goes on with the work."""


class Change(Protocol):
    """One document as it is now, in order of change."""

    @property
    def sequence(self) -> int: ...
    @property
    def doc_id(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def content_hash(self) -> str: ...
    @property
    def deleted(self) -> bool: ...


class Changes(Protocol):
    """Where changed documents come from; `flywheel.store.store.Store.documents` fulfils it."""

    def changed_since(self, sequence: int, limit: int) -> Sequence[Change]: ...

    def last_change(self) -> int: ...

    def count(self) -> int: ...


def open_index(folder: Path, encoder: Encoder) -> Index:
    """The saved index of this encoder's space under `folder`, or a new one if there is none yet."""
    try:
        return Index.load(folder / encoder.index_id, index_id=encoder.index_id)
    except FileNotFoundError:
        return Index(encoder.index_id, encoder.dimension)


class Indexer:
    """Follows the store's changes for one index. Safe to share; the index may be searched meanwhile.

    Args:
        folder: the folder of all indexes; this one is in a subfolder named by its id.
        changed: called with the documents that changed, so that caches can forget them.
        stopping: asked after each batch of texts; once it returns True, `Stopped` is raised.
    """

    def __init__(
        self,
        encoder: Encoder,
        index: Index,
        documents: Changes,
        folder: Path,
        *,
        changed: Callable[[Sequence[str]], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._encoder, self.index, self._documents = encoder, index, documents
        self._folder = folder / index.index_id
        self._changed, self._stopping = changed, stopping
        self._sequence = 0
        self._unsaved = 0
        self._stepping = threading.Lock()

    @property
    def pending(self) -> int:
        """Changes that the index has not seen yet."""
        return max(0, self._documents.last_change() - self._sequence)

    def step(self) -> bool:
        """Take in up to 512 changes; returns whether there may be more. Saves every 4,096 changes, and when idle."""
        with self._stepping:
            return self._step()

    def _step(self) -> bool:
        changes = self._documents.changed_since(self._sequence, _EMBED_AT_ONCE)
        if not changes:
            self._save()
            return False
        hashes = self.index.hashes
        removed = [change.doc_id for change in changes if change.deleted and change.doc_id in hashes]
        stale = [item for item in changes if not item.deleted and hashes.get(item.doc_id) != item.content_hash]
        if removed:
            self.index.remove(removed)
        if stale:
            vectors = self._encoder.encode_documents([item.content for item in stale], progress=self._go_on)
            self.index.add([item.doc_id for item in stale], vectors, [item.content_hash for item in stale])
        self._changed([change.doc_id for change in changes])
        self._sequence = changes[-1].sequence
        self._unsaved += len(removed) + len(stale)
        if self._unsaved >= _SAVE_EVERY:
            self._save()
        return True

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Step until nothing is pending, and save."""
        total = self.pending
        while self.step():
            if progress is not None:
                progress(total - self.pending, total)

    def _go_on(self, _done: int, _total: int) -> None:
        if self._stopping():
            raise Stopped("stopping while documents are encoded; the rest follows at the next start")

    def _save(self) -> None:
        if self._unsaved:
            self.index.save(self._folder)
            log.info("index %s saved: %d documents", self.index.index_id, len(self.index))
            self._unsaved = 0


class Encoders(Protocol):
    """Loaded model versions; `flywheel.retrieval.registry.Registry` fulfils it."""

    def encoder(self, version: str) -> Encoder: ...


class Indexers:
    """One indexer for each vector space, opened when a version of that space is first needed."""

    def __init__(
        self,
        encoders: Encoders,
        documents: Changes,
        folder: Path,
        changed: Callable[[Sequence[str]], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._encoders, self._documents, self._folder, self._changed = encoders, documents, folder, changed
        self._stopping = stopping
        self._open: dict[str, Indexer] = {}
        self._opening = threading.Lock()

    def counts(self, index_id: str) -> dict[str, int]:
        """How many documents an index holds and how many are pending; for one that is not open, as it was saved."""
        indexer = self._open.get(index_id)
        if indexer is not None:
            return {"documents": len(indexer.index), "pending": indexer.pending}
        saved = saved_count(self._folder / index_id)
        return {"documents": saved, "pending": max(0, self._documents.count() - saved)}

    def memory_bytes(self, index_id: str) -> int:
        """What the vectors of an index take; 0 while it is not open. It opens none: that loads a model."""
        indexer = self._open.get(index_id)
        return 0 if indexer is None else 4 * len(indexer.index) * indexer.index.dimension

    def of(self, version: str) -> Indexer:
        """The indexer of the space of this version's document vectors."""
        encoder = self._encoders.encoder(version)
        with self._opening:
            if encoder.index_id not in self._open:
                index = open_index(self._folder, encoder)
                self._open[encoder.index_id] = Indexer(
                    encoder, index, self._documents, self._folder, changed=self._changed, stopping=self._stopping
                )
            return self._open[encoder.index_id]
