"""A model version on disk: a folder that plain SentenceTransformer loads, complete once it holds `flywheel.json`.

It writes safetensors only: into a folder of another name, which is flushed and renamed.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from flywheel.retrieval.encoder import Encoder, index_id_of, length_limit, shorten, tower_id, uses_bf16
from trainer.data.dataset import Snapshot

MANIFEST = "flywheel.json"


def load(path: str, *, max_seq_length: int | None, device: str) -> SentenceTransformer:
    """A model to train from; it reads no more tokens of a text than the recipe says."""
    model = SentenceTransformer(path, device=device, local_files_only=True)
    shorten(model, max_seq_length)
    return model.float().eval()


def check_space(model: SentenceTransformer, snapshot: Snapshot) -> None:
    """Raises ValueError where the snapshot's document vectors cannot come from this model's document side."""
    ours, theirs = int(model.get_embedding_dimension() or 0), snapshot.vectors.shape[1]
    if ours != theirs:
        raise ValueError(f"document vectors of {theirs} dimensions do not fit the champion's {ours}")
    index_id = index_id_of(tower_id(model, "document"), length_limit(model))
    if snapshot.header.index_id != index_id:
        raise ValueError(f"the snapshot's vectors are of index {snapshot.header.index_id}, the champion's documents "
                         f"of {index_id}; re-encode the documents")  # fmt: skip


def home_vectors(snapshot: Snapshot, texts: Sequence[str], *, device: str) -> npt.NDArray[np.float32] | None:
    """The base model's vectors (n, d) of these queries.

    None where the champion's vectors serve: there is no text, the champion is the base model, or its document tower
    was trained, so that the base's vectors no longer fit its space.
    """
    if not texts or snapshot.header.champion_path == snapshot.header.base_path:
        return None
    base = load(snapshot.header.base_path, max_seq_length=snapshot.recipe.max_seq_length, device=device)
    try:
        check_space(base, snapshot)
    except ValueError:
        return None
    return Encoder(base, device=device, bf16=uses_bf16(snapshot.recipe.bf16, device)).encode_queries(list(texts))


def join(
    champion: SentenceTransformer, query: Sequence[torch.nn.Module], document: Sequence[torch.nn.Module]
) -> SentenceTransformer:
    """One model with a side for queries and a side for documents; plain `encode` uses the documents' side."""
    router = Router.for_query_document(list(query), list(document), default_route="document")  # type: ignore[arg-type]
    joined = SentenceTransformer(
        modules=[router],
        device=str(champion.device),
        prompts={name: text or "" for name, text in champion.prompts.items()},
        default_prompt_name=champion.default_prompt_name,
        similarity_fn_name="cosine",
        truncate_dim=champion.truncate_dim,
    )
    if length_limit(champion):
        joined.max_seq_length = champion.max_seq_length
    return joined


def save(model: SentenceTransformer, out: Path, snapshot: Snapshot, *, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write the version and return its manifest.

    1. modules into a temporary folder; 2. flush; 3. manifest, flush; 4. rename to `out`, flush the parent.

    Raises:
        FileExistsError: a complete version is at `out`.
    """
    if (out / MANIFEST).exists():
        raise FileExistsError(f"{out} already holds a complete model version; versions never change")
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(str(draft), create_model_card=False, safe_serialization=True)  # 1
    _share_unchanged(draft, Path(snapshot.header.champion_path))
    _flush(draft)  # 2
    manifest = _manifest(model, snapshot, metrics)
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True), "utf-8")  # 3
    _flush(draft)
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)  # 4
    _flush_one(out.parent)
    return manifest


def _manifest(model: SentenceTransformer, snapshot: Snapshot, metrics: Mapping[str, Any]) -> dict[str, Any]:
    header = snapshot.header
    document_tower = tower_id(model, "document")
    now = datetime.datetime.now(datetime.UTC)
    return {
        "version": header.version,
        "parent": header.parent,
        "tier": header.tier,
        "index_id": index_id_of(document_tower, length_limit(model)),
        "document_tower_id": document_tower,
        "base_model": header.base_path,
        "created_at": now.isoformat(timespec="seconds"),
        "run_id": header.run_id,
        "snapshot_id": snapshot.snapshot_id,
        "seed": header.seed,
        "metrics": dict(metrics),
        "trained_documents": int(metrics.get("trained_documents", 0)),
        "recipe": snapshot.recipe.model_dump(mode="json"),
    }


def _share_unchanged(draft: Path, champion: Path) -> None:
    """Hard-link weights that the champion has too to its files, so that a version takes only the space it changed."""
    if not (champion / MANIFEST).exists():  # not a version of ours, so its files may change
        return
    theirs = list(champion.rglob("model.safetensors"))
    for ours in draft.rglob("model.safetensors"):
        same = next((path for path in theirs if _equal(ours, path)), None)
        if same is None:
            continue
        link = ours.with_suffix(".link")  # a link cannot replace a file; a rename can
        try:
            os.link(same, link)
        except OSError:  # another file system, or none that links: the copy stays
            return
        link.replace(ours)


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 22):
            if block != second.read(1 << 22):
                return False
    return True


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _flush_one(path)
    _flush_one(folder)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
