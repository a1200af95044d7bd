"""Exact inner-product search over document vectors in one named space. It refuses vectors of any other space.

Rows are only appended, and a search works on the state at its start, so writers never disturb it.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
MANIFEST = "index.json"


class SpaceMismatch(ValueError):  # noqa: N818 - reads as what happened
    """Vectors of two spaces met: another document tower, or another dimension."""


@dataclass(frozen=True)
class _IndexState:
    """What one search sees: the first `count` rows of `rows`, without `dead` ones, which were replaced or removed."""

    rows: Vectors
    row_ids: list[str]
    count: int
    live: Mapping[str, int] = field(default_factory=dict)
    dead: frozenset[int] = frozenset()


class Index:
    """Document vectors by id. Any number of threads may search while one adds."""

    def __init__(self, index_id: str, dimension: int) -> None:
        self.index_id = index_id
        self.dimension = dimension
        self.hashes: dict[str, str] = {}
        self._writing = threading.Lock()
        self._state = _IndexState(np.empty((0, dimension), np.float32), [], 0)

    def __len__(self) -> int:
        return len(self._state.live)

    @property
    def doc_ids(self) -> list[str]:
        """Ids in the row order of `all_vectors`."""
        return list(self._state.live)

    def add(self, doc_ids: Sequence[str], vectors: Vectors, hashes: Sequence[str] | None = None) -> None:
        """Add documents, or replace them; `hashes` are those of their contents.

        Raises:
            SpaceMismatch: vectors of another dimension.
            ValueError: not one vector (and hash) for each id, or values that are not finite.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise SpaceMismatch(f"vectors of shape {vectors.shape} do not fit index {self.index_id}, which holds "
                                f"{self.dimension} dimensions; encode with the model that owns this index")  # fmt: skip
        if len(doc_ids) != len(vectors) or (hashes is not None and len(hashes) != len(doc_ids)):
            raise ValueError(f"{len(doc_ids)} ids, {len(vectors)} vectors: each document needs exactly one of each")
        if not np.isfinite(vectors).all():
            raise ValueError("a vector holds a value that is not finite")
        last = {doc_id: row for row, doc_id in enumerate(doc_ids)}
        kept = list(last.values())
        with self._writing:
            self._append(list(last), vectors[kept])
            for doc_id, row in last.items():
                self.hashes[doc_id] = hashes[row] if hashes is not None else ""

    def remove(self, doc_ids: Sequence[str]) -> int:
        """Remove documents and ignore unknown ids. Returns how many were removed."""
        with self._writing:
            state = self._state
            gone = {doc_id for doc_id in doc_ids if doc_id in state.live}
            live = {doc_id: row for doc_id, row in state.live.items() if doc_id not in gone}
            dead = state.dead | {state.live[doc_id] for doc_id in gone}
            self._state = _compact(_IndexState(state.rows, state.row_ids, state.count, live, dead))
            for doc_id in gone:
                self.hashes.pop(doc_id, None)
        return len(gone)

    def search(self, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]:
        """The `k` nearest documents of each query vector, best first, and their scores (n, min(k, len)).

        Raises:
            SpaceMismatch: query vectors of another dimension.
        """
        import faiss

        state = self._state
        vectors = np.ascontiguousarray(np.atleast_2d(vectors), dtype=np.float32)
        if vectors.shape[1] != self.dimension:
            raise SpaceMismatch(f"a query of {vectors.shape[1]} dimensions does not fit index {self.index_id}, "
                                f"which holds {self.dimension}; use the model version that owns it")  # fmt: skip
        k = min(k, len(state.live))
        if k <= 0 or not len(vectors):
            return [[] for _ in vectors], np.empty((len(vectors), 0), np.float32)
        scores, rows = faiss.knn(
            vectors, state.rows[: state.count], min(k + len(state.dead), state.count), metric=faiss.METRIC_INNER_PRODUCT
        )
        if state.dead:
            scores, rows = _without(scores, rows, state.dead, k)
        return [[state.row_ids[row] for row in ranked] for ranked in rows], np.asarray(scores, np.float32)

    def vectors(self, doc_ids: Sequence[str]) -> Vectors:
        """Vectors (n, d) of these documents, in this order. Raises KeyError for an unknown id."""
        state = self._state
        return state.rows[[state.live[doc_id] for doc_id in doc_ids]]

    def all_vectors(self) -> Vectors:
        """Vectors (n, d) of every document, in the order of `doc_ids`."""
        state = self._state
        return state.rows[list(state.live.values())]

    def save(self, folder: Path) -> None:
        """Write the index; after a crash at any point the earlier one is still valid.

        1. Write new vectors and ids under fresh names, and flush them. 2. Replace the manifest, which names them, in
        one step. 3. Remove all files that the manifest no longer names.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with self._writing:
            doc_ids, vectors, hashes = self.doc_ids, self.all_vectors(), dict(self.hashes)
        stamp = uuid.uuid4().hex[:12]
        names = {"vectors": f"vectors-{stamp}.npy", "documents": f"documents-{stamp}.json"}
        with (folder / names["vectors"]).open("wb") as file:  # 1
            np.save(file, vectors, allow_pickle=False)
            _flush(file.fileno())
        _write(folder / names["documents"], {"doc_ids": doc_ids, "hashes": [hashes.get(key, "") for key in doc_ids]})
        manifest = {"index_id": self.index_id, "dimension": self.dimension, "count": len(doc_ids), **names}
        _write(folder / f"{MANIFEST}.{stamp}.tmp", manifest)
        (folder / f"{MANIFEST}.{stamp}.tmp").replace(folder / MANIFEST)  # 2
        _flush_folder(folder)
        for old in [*folder.glob("vectors-*.npy"), *folder.glob("documents-*.json"), *folder.glob("*.tmp")]:
            if old.name not in names.values():  # 3
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, *, index_id: str | None = None) -> Index:
        """Read what `save` wrote.

        Raises:
            SpaceMismatch: the folder holds another space than `index_id`.
            FileNotFoundError: no complete index there.
            ValueError: files that contradict the manifest.
        """
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if index_id is not None and manifest["index_id"] != index_id:
            raise SpaceMismatch(f"{folder} holds index {manifest['index_id']}, not {index_id}: its vectors come from "
                                "another document tower; re-encode the documents")  # fmt: skip
        vectors = np.load(folder / manifest["vectors"], allow_pickle=False)
        documents = json.loads((folder / manifest["documents"]).read_text("utf-8"))
        expected = (manifest["count"], manifest["dimension"])
        if vectors.shape != expected or len(documents["doc_ids"]) != manifest["count"]:
            raise ValueError(f"{folder} is damaged: {vectors.shape} vectors where the manifest says {expected}")
        index = cls(manifest["index_id"], manifest["dimension"])
        if manifest["count"]:
            index.add(documents["doc_ids"], vectors, documents["hashes"])
        return index

    def _append(self, doc_ids: list[str], vectors: Vectors) -> None:
        state = self._state
        count = state.count + len(doc_ids)
        rows, row_ids = state.rows, state.row_ids
        if count > len(rows):
            # a quarter more than needed, so that repeated adds seldom copy
            rows = np.empty((max(count, count + count // 4), self.dimension), np.float32)
            rows[: state.count] = state.rows[: state.count]
        rows[state.count : count] = vectors
        del row_ids[state.count :]  # left by an add that failed half way
        row_ids.extend(doc_ids)
        dead = state.dead | {state.live[doc_id] for doc_id in doc_ids if doc_id in state.live}
        live = {doc_id: row for doc_id, row in state.live.items() if row not in dead}
        live.update(zip(doc_ids, range(state.count, count), strict=True))
        self._state = _compact(_IndexState(rows, row_ids, count, live, dead))


def _compact(state: _IndexState) -> _IndexState:
    """The same documents without their dead rows, once these cost searches more than a copy."""
    if len(state.dead) <= max(256, state.count // 50):
        return state
    rows = state.rows[list(state.live.values())]
    return _IndexState(rows, list(state.live), len(rows), {doc_id: row for row, doc_id in enumerate(state.live)})


def _without(
    scores: Vectors, rows: npt.NDArray[np.int64], dead: frozenset[int], k: int
) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """The first `k` live results of each row; there are enough, because `k + len(dead)` were asked for."""
    alive = ~np.isin(rows, list(dead))
    first = np.argsort(~alive, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, first, 1), np.take_along_axis(rows, first, 1)


def _write(path: Path, value: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        _flush(file.fileno())


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def saved_count(folder: Path) -> int:
    """How many documents the index saved in `folder` holds; 0 where there is none."""
    try:
        return int(json.loads((folder / MANIFEST).read_text("utf-8"))["count"])
    except FileNotFoundError:
        return 0
