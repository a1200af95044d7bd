"""The snapshot between database and trainer: a folder of JSON, Parquet and one memory-mapped array, written whole.

It also decides the hold-out, by hash, so that what was held out once never trains in a later run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.events import normalise_query
from trainer.data.recipe import Header, Recipe, ResourceBudget

MANIFEST = "snapshot.json"
TEXTS = "texts.parquet"
PAIRS = pa.schema(
    [
        ("query", pa.string()),
        ("doc_id", pa.string()),
        ("label", pa.string()),
        ("weight", pa.float32()),
        ("posterior", pa.float32()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
    ]
)
PROBES = "probes.json"
ANCHORS = pa.schema([("query", pa.string()), ("doc_id", pa.string())])


@dataclass(frozen=True)
class Corpus:
    """The indexed documents: row i of `vectors` (n, d), by the champion's document tower, is that of `doc_ids[i]`."""

    doc_ids: Sequence[str]
    vectors: npt.NDArray[np.float32]
    texts: Mapping[str, str] | None = None  # contents by id; only the tier `full` needs them
    probes: Sequence[str] = ()  # query-like texts about them, which the model must go on answering as the base does


@dataclass(frozen=True)
class Snapshot:
    """What a run reads; `vectors` as in `Corpus`, `query_vectors` by query text, as far as the writer had them."""

    folder: Path
    header: Header
    recipe: Recipe
    budget: ResourceBudget
    pairs: pa.Table
    doc_ids: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    texts: Mapping[str, str]
    anchors: pa.Table
    probes: tuple[str, ...]
    query_vectors: Mapping[str, npt.NDArray[np.float32]]
    snapshot_id: str


def write_snapshot(
    folder: Path,
    *,
    header: Header,
    recipe: Recipe,
    budget: ResourceBudget,
    pairs: pa.Table,
    documents: Corpus,
    anchors: pa.Table | None = None,
    query_vectors: tuple[Sequence[str], npt.NDArray[np.float32]] | None = None,
) -> Path:
    """Write a snapshot that the trainer can read; the folder appears complete or not at all.

    Args:
        folder: where. header: which model is made. recipe, budget: how the run learns, and what it may use.
        pairs: columns query, doc_id, label (positive | ambiguous | negative), weight, posterior, and where wanted
            source (new | replay; absent: new), origin (clicks | explicit | annotation; absent: clicks) and split
            (train | dev; absent: held out by hash, `dev_share` of queries and of documents). Pairs of documents that
            are not in `documents` are left out.
        documents: what is indexed.
        anchors: columns query and doc_id (may be null), on which the model must not change.
        query_vectors: texts of queries and the champion's vectors of them, so that the tier `adapter` need not encode.

    Raises:
        ValueError: no usable pair, a malformed argument, or a complete snapshot in that folder already.
    """
    table = _complete(pairs, documents.doc_ids, recipe)
    if not pc.sum(pc.equal(table["label"], "positive")).as_py():
        raise ValueError("no positive pair about an indexed document: nothing to learn from")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} already holds a snapshot; give each run its own folder")
    draft = _draft(folder)
    pq.write_table(table, draft / "pairs.parquet")
    _write_vectors(draft / "documents", documents.doc_ids, documents.vectors)
    if documents.texts is not None:
        pq.write_table(_strings(doc_id=list(documents.texts), content=list(documents.texts.values())), draft / TEXTS)
    pq.write_table(_stay(anchors), draft / "anchors.parquet")
    (draft / PROBES).write_text(json.dumps(list(documents.probes)), "utf-8")
    if query_vectors is not None:
        _write_vectors(draft / "queries", *query_vectors)
    manifest = {
        **dataclasses.asdict(header),
        "recipe": recipe.model_dump(mode="json"),
        "budget": dataclasses.asdict(budget),
        "snapshot_id": _content_hash(draft),
    }
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")
    return _publish(draft, folder)


def read_snapshot(folder: Path) -> Snapshot:
    """Read what `write_snapshot` wrote.

    Raises:
        ValueError: no snapshot there, or one that contradicts itself.
    """
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds no {MANIFEST}: not a complete snapshot")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    recipe, budget = Recipe.model_validate(manifest.pop("recipe")), ResourceBudget.parse(manifest.pop("budget"))
    snapshot_id = str(manifest.pop("snapshot_id", ""))
    doc_ids, vectors = _read_vectors(folder / "documents")
    query_vectors: dict[str, npt.NDArray[np.float32]] = {}
    if (folder / "queries.npy").exists():
        query_vectors = dict(zip(*_read_vectors(folder / "queries"), strict=True))
    texts: dict[str, str] = {}
    if (folder / TEXTS).exists():
        stored = pq.read_table(folder / TEXTS)
        texts = dict(zip(stored["doc_id"].to_pylist(), stored["content"].to_pylist(), strict=True))
    anchors = pq.read_table(folder / "anchors.parquet")
    probes = json.loads((folder / PROBES).read_text("utf-8")) if (folder / PROBES).exists() else ()
    return Snapshot(
        folder=folder,
        header=Header.parse(manifest),
        recipe=recipe,
        budget=budget,
        pairs=pq.read_table(folder / "pairs.parquet"),
        doc_ids=doc_ids,
        vectors=vectors,
        texts=texts,
        anchors=anchors,
        probes=tuple(probes),
        query_vectors=query_vectors,
        snapshot_id=snapshot_id,
    )


def held_out(key: str, share: float, *, kind: str) -> bool:
    """Whether this query or document (`kind`) is held out; the answer for a key never changes."""
    digest = hashlib.blake2b(f"{kind}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def _complete(pairs: pa.Table, doc_ids: Sequence[str], recipe: Recipe) -> pa.Table:
    """The pairs of known documents in the snapshot's own columns."""
    pairs = pairs.filter(pc.is_in(pairs["doc_id"], pa.array(doc_ids, pa.string())))
    for column, default in (("source", "new"), ("origin", "clicks")):
        if column not in pairs.column_names:
            pairs = pairs.append_column(column, pa.array([default] * len(pairs), pa.string()))
    if "split" not in pairs.column_names:
        queries = pairs["query"].to_pylist()
        out = {query: held_out(normalise_query(query), recipe.dev_share, kind="query") for query in set(queries)}
        documents = pairs["doc_id"].to_pylist()
        gone = {doc_id: held_out(doc_id, recipe.dev_share, kind="document") for doc_id in set(documents)}
        split = ["dev" if out[q] or gone[d] else "train" for q, d in zip(queries, documents, strict=True)]
        pairs = pairs.append_column("split", pa.array(split, pa.string()))
    return pairs.select(PAIRS.names).cast(PAIRS)


def _draft(folder: Path) -> Path:
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _stay(anchors: pa.Table | None) -> pa.Table:
    return ANCHORS.empty_table() if anchors is None else anchors.select(ANCHORS.names).cast(ANCHORS)


def _strings(**columns: list[str]) -> pa.Table:
    return pa.table(columns, schema=pa.schema({name: pa.string() for name in columns}))


def _write_vectors(path: Path, names: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
    if len(names) != len(vectors):
        raise ValueError(f"{len(names)} {path.name}, {len(vectors)} vectors: each needs exactly one")
    np.save(path.with_suffix(".npy"), np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
    path.with_suffix(".json").write_text(json.dumps(list(names)), "utf-8")


def _read_vectors(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    names = tuple(json.loads(path.with_suffix(".json").read_text("utf-8")))
    vectors = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    if len(vectors) != len(names):
        raise ValueError(f"{path} is damaged: {len(vectors)} vectors for {len(names)} names")
    return names, vectors


def _content_hash(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode())
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _publish(draft: Path, folder: Path) -> Path:
    _flush(draft)
    shutil.rmtree(folder, ignore_errors=True)  # ours without a manifest, so incomplete
    return draft.rename(folder)


def _flush(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
