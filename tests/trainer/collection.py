"""A small collection to train on: documents about made-up machines, queries that call their parts by other words."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from tests import defaults
from trainer.data.dataset import Corpus, write_snapshot
from trainer.data.recipe import Header, Recipe, Tier

PARTS = ["valve", "rotor", "gasket", "sensor", "bearing", "filter", "relay", "nozzle"]
JARGON = ["flimbo", "quazzle", "drent", "spindrick", "yorvel", "brackum", "tolvane", "kessit"]
FAULTS = ["leaks oil", "overheats", "makes noise", "fails at start", "vibrates", "corrodes", "sticks", "cracks"]


@cache
def documents() -> tuple[list[str], np.ndarray, dict[str, str]]:
    texts = {
        f"{part}-{number}": f"Maintenance of the {part}: what to do when it {fault}."
        for part in PARTS
        for number, fault in enumerate(FAULTS)
    }
    encoder = Encoder.load("auto", device="cpu", threads=1)
    return list(texts), encoder.encode_documents(list(texts.values())), texts


def pairs(source: str = "new") -> pa.Table:
    rows = [
        {"query": f"{word} {fault}", "doc_id": f"{part}-{number}", "label": "positive", "weight": 1.0, "posterior": 0.9,
         "source": source}
        for part, word in zip(PARTS, JARGON, strict=True)
        for number, fault in enumerate(FAULTS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def snapshot(folder: Path, *, tier: Tier = "query_tower", champion: str | None = None, **recipe: object) -> Path:
    """A snapshot of the whole collection; `budget`, `pairs`, `asked` (probes), `query_vectors` are not the recipe's."""
    base = resolve_base_model("auto")
    doc_ids, vectors, texts = documents()
    budget = recipe.pop("budget", defaults.training(threads=1))
    table, probes, known = recipe.pop("pairs", pairs()), recipe.pop("asked", ()), recipe.pop("query_vectors", None)
    index_id = Encoder.load("auto", device="cpu", max_seq_length=256).index_id
    settings = Recipe.model_validate({"tier": tier, "steps": 12, "batch_size": 16, "device": "cpu", **recipe})
    return write_snapshot(
        folder,
        header=Header("run-1", "v1", "base", champion or base, base, index_id, seed=0, tier=tier),
        recipe=settings,
        budget=budget,  # type: ignore[arg-type]
        pairs=table,
        documents=Corpus(doc_ids, vectors, texts, probes),  # type: ignore[arg-type]
        query_vectors=known,  # type: ignore[arg-type]
    )
