"""Pairs a second of the query tower beside SentenceTransformerTrainer's stock recipe, and nDCG after the same time.

    python -m benchmarks.training --beir ../shared/data/scifact

The stock side needs the library's training extra (`pip install datasets`). Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from flywheel.encoder import Encoder, resolve_base_model
from trainer import examples as pairs
from trainer import fit
from trainer.dataset import Corpus, Snapshot, held_out, read_snapshot, write_snapshot
from trainer.recipe import Budget, Header, Recipe
from trainer.run import Run
from trainer.tiers import query_tower

HELD_OUT = 0.2


class StopAt(TrainerCallback):
    """Ends the stock trainer when its time is up; the clock starts with its first step."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, time.perf_counter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
        control.should_training_stop = time.perf_counter() - self.start > self.seconds
        return control


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--beir", type=Path, required=True)
    parser.add_argument("--pool", type=int, default=1_500, help="documents that rankings are over, judged ones first")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"pairs_per_second": {}, "ratio": {}, "ndcg_at_equal_time": {}}
    queries, documents, judged = read_beir(arguments.beir, arguments.pool)
    vectors = Encoder.load("auto").encode_documents(list(documents.values()))
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            home = Path(folder) / precision
            recipe = Recipe(bf16="on" if precision == "bf16" else "off", steps=arguments.steps, dev_share=0)
            snapshot = make_snapshot(home / "s", recipe, (queries, documents, judged), vectors, arguments.threads)
            speed, seconds, ours = train_ours(snapshot, home / "m")
            stock_speed, stock = train_stock(snapshot, documents, bf16=precision == "bf16", seconds=seconds)
            result["pairs_per_second"][precision] = {"ours": round(speed, 1), "stock": round(stock_speed, 2)}
            result["ratio"][precision] = round(speed / stock_speed, 1)
            result["ndcg_at_equal_time"][precision] = {"ours": ours, "stock": stock, "seconds": round(seconds, 1)}
            print(json.dumps(result), flush=True)
    print(json.dumps(result))


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
    threads: int,
) -> Snapshot:
    """The training pairs with a fifth of the queries held out."""
    queries, documents, judged = beir
    base = resolve_base_model("auto")
    rows = [
        {"query": queries[query], "doc_id": doc_id, "label": "positive", "weight": 1.0, "posterior": 1.0,
         "split": "dev" if held_out(query, HELD_OUT, kind="query") else "train"}
        for query, doc_id in judged
    ]  # fmt: skip
    index_id = Encoder.load("auto", max_seq_length=recipe.max_seq_length).index_id
    header = Header("benchmark", "m", "base", base, base, index_id)
    table, corpus = pa.Table.from_pylist(rows), Corpus(list(documents), vectors)
    budget = Budget(threads=threads)
    return read_snapshot(
        write_snapshot(folder, header=header, recipe=recipe, budget=budget, pairs=table, documents=corpus)
    )


def train_ours(snapshot: Snapshot, out: Path) -> tuple[float, float, float]:
    """Pairs a second (frozen layers' one pass over the queries included), seconds, nDCG@10 on the held-out queries."""
    out.parent.mkdir(parents=True, exist_ok=True)
    report = query_tower.train(snapshot, Run(out, snapshot.snapshot_id, snapshot.budget))
    plan = pairs.plan(snapshot, steps=snapshot.recipe.steps)
    done = sum(int(np.diff(plan.examples.targets.start)[rows].sum()) for rows in plan.steps)
    seconds = report["seconds"]["prepare"] + report["seconds"]["fit"]
    return done / seconds, seconds, report["dev"]["candidate"]["all"]


def train_stock(snapshot: Snapshot, documents: dict[str, str], *, bf16: bool, seconds: float) -> tuple[float, float]:
    """The library's trainer, its loss and its batch: pairs a second, nDCG@10 on the held-out queries."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    rows = [row for row in snapshot.pairs.to_pylist() if row["split"] == "train"]
    columns = {"anchor": [row["query"] for row in rows], "positive": [documents[row["doc_id"]] for row in rows]}
    model = SentenceTransformer(snapshot.header.base_path, device="cpu", local_files_only=True)
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(snapshot.folder / "stock"), num_train_epochs=100, per_device_train_batch_size=16, bf16=bf16,
        save_strategy="no", logging_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    stop = StopAt(seconds)
    trainer = SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=Dataset.from_dict(columns), loss=MultipleNegativesRankingLoss(model),
        callbacks=[stop],
    )  # fmt: skip
    trainer.train()
    spent = time.perf_counter() - stop.start
    speed = trainer.state.global_step * 16 / spent
    data = pairs.build(snapshot)
    held = np.concatenate([data.dev_seen, data.dev_unseen])
    encoder = Encoder(model.eval(), device="cpu", bf16=True)
    scores = (
        encoder.encode_queries([data.queries[row] for row in held])
        @ encoder.encode_documents([documents[doc_id] for doc_id in snapshot.doc_ids]).T
    )
    ndcg = fit.DevScore(pairs.dev_ndcg(scores, data.judged.take(held)), np.empty(0))
    return speed, float(ndcg.means()["all"] or 0.0)


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
