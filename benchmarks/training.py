"""Pairs a second of the query tower beside SentenceTransformerTrainer's stock recipe, and nDCG after the same time.

    python -m benchmarks.training --beir ../shared/data/scifact --seeds 3

Both train the same pairs on the same threads. Ours reads queries alone, against the index's vectors, which stay as they
are; the stock reads documents too, and re-encodes the corpus before it is scored: neither that nor our index is timed.
`processor` counts processor seconds instead of the clock's, for machines that do other things. The tier `adapter` then
retrains on generated vectors. The stock side needs the extra dev. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import training_adapter
from benchmarks.harness import print_result
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from flywheel.settings.load import Limits
from trainer.data import examples as pairs
from trainer.data.dataset import Corpus, Snapshot, held_out, read_snapshot, write_snapshot
from trainer.data.recipe import Header, Recipe, ResourceBudget
from trainer.process.run import Run
from trainer.tiers import query_tower

HELD_OUT = 0.2
PROBE_STEPS = 6


@dataclass
class Trained:
    """One side's run: pairs seen, seconds by the clock and of the processor, nDCG@10 on the held-out queries."""

    pairs: int
    seconds: float
    processor: float
    ndcg: float


class Clock(TrainerCallback):
    """Times the stock trainer from its first step to its last."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start, self.processor = time.perf_counter(), time.process_time()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds, self.processor_seconds = time.perf_counter() - self.start, time.process_time() - self.processor


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--beir", type=Path, required=True)
    parser.add_argument("--pool", type=int, default=1_500, help="documents that rankings are over, judged ones first")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--adapter-pairs", type=int, default=100_000, help="0 leaves the adapter out")
    parser.add_argument("--adapter-documents", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"pairs_per_second": {}, "ratio": {}, "processor": {}, "ndcg_at_equal_time": {}}
    world = read_beir(arguments.beir, arguments.pool)
    vectors = Encoder.load("auto").encode_documents(list(world[1].values()))
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            ours, stock = [], []
            for seed in range(arguments.seeds):
                home = Path(folder) / f"{precision}-{seed}"
                bf16: Literal["on", "off"] = "on" if precision == "bf16" else "off"
                recipe = Recipe(bf16=bf16, steps=arguments.steps, dev_share=0)
                snapshot = make_snapshot(home / "s", recipe, world, vectors, (arguments.threads, seed))
                ours.append(train_ours(snapshot, home / "m"))
                stock.append(train_stock(snapshot, world[1], bf16=precision == "bf16", seconds=ours[-1].seconds))
            compare(result, precision, ours, stock)
            print(json.dumps(result), file=sys.stderr, flush=True)
        if arguments.adapter_pairs:
            sizes = {"pairs": arguments.adapter_pairs, "documents": arguments.adapter_documents}
            result["adapter"] = training_adapter.measure(Path(folder) / "a", **sizes, threads=arguments.threads)
    print_result(result, range(arguments.seeds))


def compare(result: dict[str, Any], precision: str, ours: list[Trained], stock: list[Trained]) -> None:
    """Speeds over all seeds together; nDCG as means, with every seed's value."""
    sides = {"ours": ours, "stock": stock}
    for key, unit in (("pairs_per_second", "seconds"), ("processor", "processor")):
        speed = {
            name: sum(run.pairs for run in runs) / sum(getattr(run, unit) for run in runs)
            for name, runs in sides.items()
        }
        ratio = round(speed["ours"] / speed["stock"], 1)
        result[key][precision] = {name: round(value, 2) for name, value in speed.items()}
        if key == "processor":
            result[key][precision]["ratio"] = ratio
        else:
            result["ratio"][precision] = ratio
    result["ndcg_at_equal_time"][precision] = {
        **{name: round(float(np.mean([run.ndcg for run in runs])), 4) for name, runs in sides.items()},
        "seeds": {name: [round(run.ndcg, 4) for run in runs] for name, runs in sides.items()},
        "seconds": [round(run.seconds, 1) for run in ours],
    }


def read_beir(folder: Path, pool: int) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """Queries, `pool` documents (every judged one among them), and the training split's relevant pairs."""
    queries = {row["_id"]: row["text"] for row in _lines(folder / "queries.jsonl.gz")}
    path = next(path for path in (folder / "qrels").glob("train.tsv*"))
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        judged = [(row[0], row[1]) for row in list(csv.reader(file, delimiter="\t"))[1:] if float(row[2]) > 0]
    every = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in _lines(folder / "corpus.jsonl.gz")}
    needed = {doc_id for _, doc_id in judged}
    order = sorted(every, key=lambda doc_id: doc_id not in needed)
    return queries, {doc_id: every[doc_id] for doc_id in order[: max(pool, len(needed))]}, judged


def make_snapshot(
    folder: Path,
    recipe: Recipe,
    beir: tuple[dict[str, str], dict[str, str], list[tuple[str, str]]],
    vectors: np.ndarray,
    threads_and_seed: tuple[int, int],
) -> Snapshot:
    """The training pairs with a fifth of the queries held out."""
    (queries, documents, judged), (threads, seed) = beir, threads_and_seed
    base = resolve_base_model("auto")
    rows = [
        {"query": queries[query], "doc_id": doc_id, "label": "positive", "weight": 1.0, "posterior": 1.0,
         "split": "dev" if held_out(query, HELD_OUT, kind="query") else "train"}
        for query, doc_id in judged
    ]  # fmt: skip
    index_id = Encoder.load("auto", max_seq_length=recipe.max_seq_length).index_id
    header = Header("benchmark", "m", "base", base, base, index_id, seed=seed, tier="query_tower")
    table, corpus = pa.Table.from_pylist(rows), Corpus(list(documents), vectors)
    budget = replace(ResourceBudget.of(Limits()), threads=threads)
    return read_snapshot(
        write_snapshot(folder, header=header, recipe=recipe, budget=budget, pairs=table, documents=corpus)
    )


def train_ours(snapshot: Snapshot, out: Path) -> Trained:
    """The query tower, its one pass through the frozen layers included, saving left out."""
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(snapshot.header.seed)
    before = time.process_time()
    report = query_tower.train(snapshot, Run(out, snapshot.snapshot_id, snapshot.budget))
    processor = time.process_time() - before  # loading, merging and saving too: to our disadvantage
    plan = pairs.plan(snapshot, steps=snapshot.recipe.steps)
    done = sum(int(np.diff(plan.examples.targets.start)[rows].sum()) for rows in plan.steps[: report["steps"]])
    seconds = report["seconds"]["prepare"] + report["seconds"]["fit"]
    return Trained(done, seconds, processor, report["dev"]["candidate"]["all"])


def train_stock(snapshot: Snapshot, documents: dict[str, str], *, bf16: bool, seconds: float) -> Trained:
    """The library's trainer and loss; a few steps tell how many fit the time, so that its schedule ends with it."""
    rows = [row for row in snapshot.pairs.to_pylist() if row["split"] == "train"]
    columns = {"anchor": [row["query"] for row in rows], "positive": [documents[row["doc_id"]] for row in rows]}
    probe = _stock(snapshot, columns, bf16=bf16, steps=PROBE_STEPS)[1]
    model, run = _stock(snapshot, columns, bf16=bf16, steps=max(1, round(seconds * probe.pairs / 16 / probe.seconds)))
    data = pairs.build(snapshot)
    held = np.concatenate([data.dev_seen, data.dev_unseen])
    encoder = Encoder(model.eval(), device="cpu", bf16=True)
    scores = (
        encoder.encode_queries([data.queries[row] for row in held])
        @ encoder.encode_documents([documents[doc_id] for doc_id in snapshot.doc_ids]).T
    )
    run.ndcg = float(pairs.dev_ndcg(scores, data.judged.take(held)).mean())
    return run


def _stock(
    snapshot: Snapshot, columns: dict[str, list[str]], *, bf16: bool, steps: int
) -> tuple[SentenceTransformer, Trained]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    model = SentenceTransformer(snapshot.header.base_path, device="cpu", local_files_only=True)
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(snapshot.folder / "stock"), max_steps=steps, per_device_train_batch_size=16, bf16=bf16,
        warmup_steps=0.1, batch_sampler=BatchSamplers.NO_DUPLICATES, seed=snapshot.header.seed,
        save_strategy="no", logging_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    clock = Clock()
    trainer = SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=Dataset.from_dict(columns), loss=MultipleNegativesRankingLoss(model),
        callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    return model, Trained(steps * 16, clock.seconds, clock.processor_seconds, 0.0)


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
