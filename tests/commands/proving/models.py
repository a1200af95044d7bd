"""Three real models and a small judged collection: one sound, one that noise has spoilt, one hardly changed."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.origin import resolve_base_model

BAD, NUDGED = 1.0, 0.01
"""Noise after which a model finds hardly anything, and noise that changes nothing."""
PARTS = ("valve", "rotor", "gasket", "sensor", "bearing", "filter", "relay", "nozzle")
FAULTS = ("leaks oil", "overheats", "makes noise", "fails at start", "vibrates", "corrodes", "sticks", "cracks")


@cache
def spoilt(noise: float) -> str:
    """The folder of MiniLM with that much noise, in standard deviations of each matrix, on its layers."""
    model = SentenceTransformer(resolve_base_model("auto"), device="cpu", local_files_only=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model[0].model.encoder.layer.parameters():
            if weights.ndim == 2:
                weights.add_(torch.randn_like(weights) * noise * weights.std())
    folder = mkdtemp(prefix="flywheel-model-")
    model.save_pretrained(folder)
    return folder


def collection(folder: Path, *, queries: int = 64) -> Path:
    """64 documents on faults of parts, and a query for each, of which the first `queries` are judged."""
    folder.joinpath("qrels").mkdir(parents=True)
    asked = [(f"{part}-{n}", part, fault) for part in PARTS for n, fault in enumerate(FAULTS)]
    corpus = [
        {"_id": key, "title": "", "text": f"Maintenance of the {part}: what to do when it {fault}."}
        for key, part, fault in asked
    ]
    texts = [{"_id": f"q-{key}", "text": f"my {part} {fault}, help"} for key, part, fault in asked]
    for name, rows in (("corpus", corpus), ("queries", texts)):
        folder.joinpath(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    judged = [f"q-{key}\t{key}\t1\n" for key, _, _ in asked[:queries]]
    folder.joinpath("qrels", "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), "utf-8")
    return folder
