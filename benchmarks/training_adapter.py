"""The tier `adapter` on generated vectors, by the product's own path: snapshot, subprocess, model directory.

Only the time is of interest: random vectors have nothing to teach. The snapshot carries the champion's query vectors,
as the one that the product writes does: reading the evidence made them. `without_vectors` encodes the queries again,
as after a crash between the two.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from flywheel.settings.load import Limits
from trainer.data.dataset import Corpus, write_snapshot
from trainer.data.recipe import Header, Recipe, ResourceBudget
from trainer.process.launch import launch, read_report

WORDS = ["valve", "rotor", "pressure", "leaks", "noise", "replace", "how", "to", "oil", "cold", "start", "sensor"]
QUERY_WORDS = 6


def measure(folder: Path, *, pairs: int, documents: int, threads: int, seed: int = 0) -> dict[str, Any]:
    """Seconds from the written snapshot to the model directory, wall and processor, each pair with a query of its own.

    `reading_seconds` encodes all queries in this process.

    Raises:
        RuntimeError: the run failed.
    """
    generator = np.random.default_rng(seed)
    base = resolve_base_model("auto")
    encoder = Encoder.load("auto", device="cpu", max_seq_length=Recipe().max_seq_length)
    vectors = generator.standard_normal((documents, encoder.dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = generator.integers(len(WORDS), size=(pairs, QUERY_WORDS))
    doc_ids = [f"d{number}" for number in range(documents)]
    table = pa.table(
        {
            "query": [
                " ".join(WORDS[word] for word in row) + f" {number}" for number, row in enumerate(words.tolist())
            ],
            "doc_id": [doc_ids[row] for row in generator.integers(documents, size=pairs).tolist()],
            "label": ["positive"] * pairs,
            "weight": np.ones(pairs, np.float32),
            "posterior": np.ones(pairs, np.float32),
            "source": ["new" if number % 2 else "replay" for number in range(pairs)],
        }
    )
    budget, corpus = replace(ResourceBudget.of(Limits()), threads=threads), Corpus(doc_ids, vectors)
    header = Header("benchmark", "adapter", "base", base, base, encoder.index_id, seed=0, tier="adapter")
    texts = table["query"].to_pylist()
    started = time.perf_counter()
    asked = encoder.encode_queries(texts)
    encoded = time.perf_counter()
    found = {
        name: _retrain(folder / name, header, budget, (table, corpus, known))
        for name, known in (("with", (texts, asked)), ("without", None))
    }
    return {
        "pairs": pairs,
        "documents": documents,
        "threads": threads,
        "reading_seconds": round(encoded - started, 1),
        **found["with"],
        "without_vectors": found["without"],
    }


def _retrain(
    folder: Path, header: Header, budget: ResourceBudget, parts: tuple[pa.Table, Corpus, Any]
) -> dict[str, Any]:
    table, corpus, known = parts
    started = time.perf_counter()
    snapshot = write_snapshot(
        folder / "s", header=header, recipe=Recipe(tier="adapter"), budget=budget, pairs=table, documents=corpus,
        query_vectors=known,
    )  # fmt: skip
    written, before = time.perf_counter(), _processor()
    out = folder / "m" / "adapter"
    code = launch(snapshot, out, budget).wait()
    ended = time.perf_counter()
    report = read_report(out) or {}
    if code or report.get("error"):
        raise RuntimeError(f"the adapter failed: {report.get('error') or code}")
    return {
        "seconds": round(ended - written, 1),
        "processor_seconds": round(_processor() - before, 1),
        "snapshot_seconds": round(written - started, 1),
        "steps": report["steps"],
        "peak_gb": report["peak_gb"],
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
