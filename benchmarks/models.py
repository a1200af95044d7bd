"""Writes docs/models.md: which families of SentenceTransformer folders are served as the library does it, and trained.

Each row is tried on a small folder with random weights (`benchmarks/families.py`): vectors of both sides are held
against the library's own, then each tier trains a few steps, and what it saved is loaded and held against it again.

Run:
    python -m benchmarks.models [--only NAME]... [--check]
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import pyarrow as pa

from benchmarks import families
from benchmarks.harness import ROOT
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import examine
from flywheel.settings.choices import Tier
from flywheel.settings.sections import Limits
from trainer.__main__ import train
from trainer.data.dataset import Corpus, read_snapshot, write_snapshot
from trainer.data.recipe import Header, Recipe, ResourceBudget

PAGE = ROOT / "docs" / "models.md"
TIERS: tuple[Tier, ...] = ("adapter", "query_tower", "full")
PARTS = ("valve", "rotor", "gasket", "sensor", "bearing", "filter", "relay", "nozzle")
FAULTS = ("leaks oil", "overheats", "makes noise", "fails at start", "vibrates", "corrodes", "sticks", "cracks")
TEXTS = {
    f"{part}-{number}": f"The {part} {fault}: what to do." for part in PARTS for number, fault in enumerate(FAULTS)
}
QUERIES = [f"{part} {fault}" for part in PARTS for fault in FAULTS]
_HEAD = """# Models

Set `trainer.base_model` to the folder of a SentenceTransformer model, or to its name on the hub. At the first start
the model is copied into the home, from the hub once. From then on the folder in the home is the model: it is served as
`SentenceTransformer(FOLDER).encode_query` and `encode_document` do it, with the folder's own prompts and length limit,
brought to unit length. `trainer.max_seq_length` may allow fewer tokens; then the copied folder says so.

Before the copy is made, some vectors of both sides are held against the library's. A model that would be served
differently is refused by name, with the reason. So are models whose code is not the library's (`trust_remote_code`),
models that are one vector for each token or sparse, models that compare by dot product without unit length, and
transformers whose weights are pickled: write them again with `SentenceTransformer(FOLDER).save_pretrained(OTHER)`.

`python -m benchmarks.models` writes the table below, on small models with random weights. Do not edit it by hand.
*served*: the largest distance between our unit vectors and the library's, over both sides, in fp32. A tier is *yes*
where it trained, its version was loaded by the plain library, and gave the same vectors there; `adapter` and
`query_tower` kept the index.

| folder | served | adapter | query_tower | full |
|---|---|---|---|---|
"""


def row(name: str) -> str:
    """One line of the table."""
    with TemporaryDirectory() as room:
        folder = families.make(name, Path(room) / "model")
        try:
            examine(folder)
            encoder = Encoder.load(folder, device="cpu", bf16="off")
            away = distance(encoder)
        except Exception as error:  # noqa: BLE001 - the table says what happened
            return f"| {name} | no: {_words(error)} | | | |"
        cells = [trained(folder, Path(room) / tier, tier, encoder) for tier in TIERS]
    return f"| {name} | {'yes' if away < 1e-5 else f'{away:.1e}'} | {' | '.join(cells)} |"


def distance(encoder: Encoder) -> float:
    """The largest distance of a unit vector from the library's own."""
    texts = [*QUERIES, *TEXTS.values(), "many words " * 400]
    sides = (
        (encoder.encode_queries, encoder.model.encode_query),
        (encoder.encode_documents, encoder.model.encode_document),
    )
    return max(
        float(np.linalg.norm(ours(texts) - theirs(texts, normalize_embeddings=True), axis=1).max())
        for ours, theirs in sides
    )


def trained(folder: Path, room: Path, tier: Tier, base: Encoder) -> str:
    """Whether this tier trains the model: `yes`, or why not."""
    try:
        train(read_snapshot(_snapshot(folder, room / "snapshot", tier, base)), room / "out")
        made = Encoder.load(room / "out", device="cpu", bf16="off")
        moved = float(np.abs(made.encode_queries(QUERIES) - base.encode_queries(QUERIES)).max())
        if distance(made) > 1e-4:
            return "no: the library reads another model than was trained"
        if moved < 1e-6:
            return "no: nothing moved"
        if (made.index_id == base.index_id) == (tier == "full"):
            return "no: the index does not fit"
    except Exception as error:  # noqa: BLE001 - the table says what happened
        return f"no: {_words(error)}"
    return "yes"


def _snapshot(folder: Path, target: Path, tier: Tier, base: Encoder) -> Path:
    pairs = [
        {"query": f"{part} {fault}", "doc_id": f"{part}-{(number + 1) % len(FAULTS)}", "label": "positive",
         "weight": 1.0, "posterior": 0.9, "source": "new"}
        for part in PARTS for number, fault in enumerate(FAULTS)
    ]  # fmt: skip
    recipe = {"tier": tier, "steps": 4, "batch_size": 16, "device": "cpu", "bf16": "off", "dev_share": 0.1}
    return write_snapshot(
        target,
        header=Header("run-1", "v1", "base", str(folder), str(folder), base.index_id, seed=0, tier=tier),
        recipe=Recipe.model_validate(recipe),
        budget=ResourceBudget.of(Limits(train_threads=1)),
        pairs=pa.Table.from_pylist(pairs),
        documents=Corpus(list(TEXTS), base.encode_documents(list(TEXTS.values())), dict(TEXTS)),
    )


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:120].replace("|", "/")


def page(names: Sequence[str]) -> str:
    """The page, with a row for each of these folders."""
    lines = []
    for name in names:
        lines.append(row(name))
        print(lines[-1], file=sys.stderr, flush=True)
    return _HEAD + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/models.md.")
    parser.add_argument("--only", action="append", choices=list(families.FOLDERS), help="try these, and write nothing")
    chosen = parser.parse_args().only
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    assert set(TIERS) <= set(get_args(Tier))
    text = page(chosen or list(families.FOLDERS))
    if not chosen:
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
