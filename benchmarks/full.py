"""What `full` gains on documents that no training pair touches, beside the library's stock recipe on the same pairs.

    python -m benchmarks.full --beir ../shared/data/scifact --seeds 3

A fifth of the documents is held out by hash; test queries are judged by held-out documents alone, and no training pair
touches one of them. A query with a held-out document is a test query, and trains on nothing; where that would leave
next to none to train on, half of them are, by hash, and the others train on their other documents. Both sides start
from the base model and see every training pair `--epochs` times; ours trains in a process of its own, as the daemon has
it. Last line: JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sentence_transformers import SentenceTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import print_result
from flywheel.retrieval.encoder import Encoder, has_bf16
from flywheel.retrieval.origin import resolve_base_model
from flywheel.settings.load import Limits
from trainer.data.dataset import Corpus, held_out, write_snapshot
from trainer.data.examples import ranked_ndcg
from trainer.data.recipe import Header, Recipe, ResourceBudget
from trainer.fitting.softmax import Sparse
from trainer.process.launch import launch, read_report
from trainer.tiers.full import BATCH

HELD_OUT = 0.2
MOST_TESTS = 0.9  # of the queries
STOCK_BATCH, STOCK_RATE, STOCK_WARMUP = 16, 2e-5, 0.1  # the library's own training overview


class World:
    """A collection, its training pairs, and test queries whose judged documents no pair touches."""

    def __init__(self, folder: Path, *, limit: int, pool: int, max_seq_length: int) -> None:
        queries = {row["_id"]: row["text"] for row in _lines(folder / "queries.jsonl.gz")}
        corpus = _lines(folder / "corpus.jsonl.gz")
        every = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in corpus}
        judged = [pair for pair in _judged(folder / "qrels") if pair[0] in queries and pair[1] in every]
        out = {pair[1] for pair in judged if held_out(pair[1], HELD_OUT, kind="document")}
        tests = {queries[query] for query, doc_id in judged if doc_id in out}
        if len(tests) > MOST_TESTS * len({queries[query] for query, _ in judged}):
            tests = {text for text in tests if held_out(text, 0.5, kind="query")}
        self.test: dict[str, list[str]] = defaultdict(list)
        for query, doc_id in judged:
            if doc_id in out and queries[query] in tests:
                self.test[queries[query]].append(doc_id)
        train = [(queries[q], doc_id) for q, doc_id in judged if doc_id not in out and queries[q] not in tests]
        if not train or not self.test:
            raise SystemExit(f"{folder}: {len(train)} training pairs and {len(self.test)} test queries; too few judged")
        # of too many pairs an even part, by hash
        self.train = train if len(train) <= limit else sorted(train, key=_drawn)[:limit]
        known = {pair[1] for pair in judged}
        order = sorted(every, key=lambda doc_id: doc_id not in known)
        self.documents = {doc_id: every[doc_id] for doc_id in order[: max(pool, len(known))]}
        self.max_seq_length = max_seq_length
        assert not {doc_id for _, doc_id in self.train} & {doc_id for found in self.test.values() for doc_id in found}

    def ndcg(self, model: Encoder) -> float:
        """Mean nDCG@10 of the test queries over the whole corpus, documents encoded by the model itself."""
        doc_ids = list(self.documents)
        vectors = model.encode_documents(list(self.documents.values()))
        scores = torch.from_numpy(model.encode_queries(list(self.test)) @ vectors.T)
        place = {doc_id: row for row, doc_id in enumerate(doc_ids)}
        rows = [[place[doc_id] for doc_id in found] for found in self.test.values()]
        entry = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        flat = np.concatenate([np.array(row, np.int64) for row in rows])
        table = Sparse.build(entry, flat, np.ones(len(flat), np.float32), entries=len(rows))
        return float(ranked_ndcg(scores.topk(10).indices.numpy(), table).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--beir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=100_000, help="training pairs at most")
    parser.add_argument("--pool", type=int, default=1_000_000, help="documents at most, judged ones first")
    parser.add_argument("--max-seq-length", type=int, default=128, help="tokens that both sides read")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="recipe fields other than the default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changed = {key: json.loads(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    world = World(arguments.beir, limit=arguments.pairs, pool=arguments.pool, max_seq_length=arguments.max_seq_length)
    encoder = Encoder.load("auto", device="cpu", max_seq_length=world.max_seq_length)
    base, vectors = world.ndcg(encoder), encoder.encode_documents(list(world.documents.values()))
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
    result: dict[str, Any] = {"base": round(base, 4), "pairs": len(world.train), "test_queries": len(world.test)}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        for name in ("ours", "stock"):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                if name == "ours":
                    model = ours(world, Path(folder), vectors, arguments, changed, seed)
                else:
                    model = stock(world, Path(folder), arguments.epochs, seed)
                seconds = time.perf_counter() - started
                runs[name].append({"gain": round(world.ndcg(model) - base, 4), "seconds": round(seconds)})
        result |= {name: _summary(found) for name, found in runs.items()}
        print(json.dumps(result), file=sys.stderr, flush=True)
    print_result(result, seeds)


def ours(
    world: World,
    folder: Path,
    vectors: np.ndarray,
    arguments: argparse.Namespace,
    changed: dict[str, Any],
    seed: int,
) -> Encoder:
    """The tier `full` at its defaults but for the steps; it holds nothing out, as the stock does not."""
    steps = max(1, round(arguments.epochs * len(world.train) / BATCH))
    settings = {"tier": "full", "steps": steps, "dev_share": 0.0, "max_seq_length": world.max_seq_length, "seed": seed}
    base = resolve_base_model("auto")
    index_id = Encoder.load("auto", device="cpu", max_seq_length=world.max_seq_length).index_id
    rows = [
        {"query": query, "doc_id": doc_id, "label": "positive", "weight": 1.0, "posterior": 1.0}
        for query, doc_id in world.train
    ]
    budget = replace(ResourceBudget.of(Limits()), threads=arguments.threads)
    snapshot = write_snapshot(
        folder / "s",
        header=Header("benchmark", "m", "base", base, base, index_id, seed=seed, tier="full"),
        recipe=Recipe.model_validate(settings | changed),
        budget=budget,
        pairs=pa.Table.from_pylist(rows),
        documents=Corpus(list(world.documents), vectors, world.documents),
    )
    if launch(snapshot, folder / "m", budget).wait():
        raise SystemExit(f"training failed: {(read_report(folder / 'm') or {}).get('error')}")
    return Encoder.load(folder / "m", device="cpu", max_seq_length=world.max_seq_length)


def stock(world: World, folder: Path, epochs: int, seed: int) -> Encoder:
    """SentenceTransformerTrainer with MultipleNegativesRankingLoss, as the library's training overview has it."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    model = SentenceTransformer(resolve_base_model("auto"), device="cpu", local_files_only=True)
    model.max_seq_length = world.max_seq_length
    columns = {"anchor": [query for query, _ in world.train], "positive": [world.documents[d] for _, d in world.train]}
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(folder), num_train_epochs=epochs, per_device_train_batch_size=STOCK_BATCH, seed=seed,
        learning_rate=STOCK_RATE, warmup_steps=STOCK_WARMUP, bf16=has_bf16("cpu"), use_cpu=True, disable_tqdm=True,
        batch_sampler=BatchSamplers.NO_DUPLICATES, save_strategy="no", logging_strategy="no", report_to="none",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=Dataset.from_dict(columns), loss=MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    return Encoder(model.eval(), device="cpu", bf16=has_bf16("cpu"))


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    gains = [run["gain"] for run in runs]
    spread = statistics.stdev(gains) if len(gains) > 1 else None
    return {
        "gain": round(statistics.mean(gains), 4),
        "sd": None if spread is None else round(spread, 4),
        "gains": gains,
        "seconds": [run["seconds"] for run in runs],
    }


def _drawn(pair: tuple[str, str]) -> bytes:
    return hashlib.blake2b("\t".join(pair).encode(), digest_size=8).digest()


def _judged(folder: Path) -> list[tuple[str, str]]:
    """Every relevant pair of every split, in order: the split here is by document."""
    found = set()
    for path in sorted(folder.glob("*.tsv*")):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            found |= {(row[0], row[1]) for row in list(csv.reader(file, delimiter="\t"))[1:] if float(row[2]) > 0}
    return sorted(found)


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
