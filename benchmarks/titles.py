"""One document a query: a collection's titles as queries against its documents without their titles.

Half of the documents, by hash, are for training, and the titles of the other half are scored: no title that is scored
has a document that training touched. `stock` is the library's own in-batch tuning of both towers on the training titles
(`benchmarks/full.py` has its settings), for `--epochs` epochs. Each tier of `--tiers` learns from the same pairs the
way the product does: its own hold-out, replay and probes, in a process of its own. With `--clicks HABIT` simulated
people search with the training titles instead, in `--rounds` rounds of `--sessions`, and the tiers learn from clicks.

`share` is a tier's gain over the stock's. By default 1,200 training titles, 600 scored ones and 3,000 documents of at
most 64 tokens keep a run within minutes; 0 takes all. `--write DIR` only writes the collection as a BEIR folder, for
other benchmarks.

    python -m benchmarks.titles --beir ../shared/data/scifact --seeds 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full
from benchmarks.harness import print_result
from benchmarks.learning import line, play_both, say, scores
from benchmarks.learning_world import graded_pairs, truth
from flywheel.files.beir import read_corpus
from flywheel.rehearsal.people import HABITS
from flywheel.retrieval.encoder import Encoder
from trainer.data.dataset import held_out

FEWEST_WORDS = 3  # of a title; a shorter one names no document
Titled = tuple[str, str, str]  # id, title, text


@dataclass
class Titles:
    """The collection: pairs (title, document) to train on, titles to score, and what they are ranked against."""

    train: list[tuple[str, str]]
    test: dict[str, list[str]]
    documents: dict[str, str] = field(repr=False)
    max_seq_length: int = 64
    ndcg = full.World.ndcg

    @classmethod
    def read(cls, options: argparse.Namespace) -> Titles:
        """Of a BEIR folder; `--train`, `--test` and `--documents` bound it, by hash."""
        passages = read_corpus(options.beir)
        every = [(one.doc_id, one.title.strip(), one.text) for one in passages if one.text.strip()]
        counted: dict[str, int] = {}
        for _, title, _ in every:
            counted[title] = counted.get(title, 0) + 1
        usable = [one for one in every if len(one[1].split()) >= FEWEST_WORDS and counted[one[1]] == 1]
        train = _drawn([one for one in usable if not held_out(one[0], 0.5, kind="title")], options.train)
        test = _drawn([one for one in usable if held_out(one[0], 0.5, kind="title")], options.test)
        asked = {one[0] for one in (*train, *test)}
        rest = [one for one in every if one[0] not in asked]
        more = max(0, options.documents - len(asked)) if options.documents else len(rest)
        kept = [*train, *test, *_drawn(rest, more)] if more else [*train, *test]
        return cls(
            [(title, doc_id) for doc_id, title, _ in train],
            {title: [doc_id] for doc_id, title, _ in test},
            {doc_id: text for doc_id, _, text in kept},
            options.max_seq_length,
        )

    def write(self, folder: Path) -> Path:
        """As a BEIR folder with the splits train and test; returns it."""
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        _write_lines(
            folder / "corpus.jsonl", [{"_id": key, "title": "", "text": of} for key, of in self.documents.items()]
        )
        splits = {"train": self.train, "test": [(title, found[0]) for title, found in self.test.items()]}
        asked = [
            {"_id": f"{name}-{row}", "text": pair[0]} for name, of in splits.items() for row, pair in enumerate(of)
        ]
        _write_lines(folder / "queries.jsonl", asked)
        for name, pairs in splits.items():
            rows = [f"{name}-{row}\t{pair[1]}\t1" for row, pair in enumerate(pairs)]
            (folder / "qrels" / f"{name}.tsv").write_text(
                "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", "utf-8"
            )
        return folder


def _drawn(documents: Sequence[Titled], count: int) -> list[Titled]:
    """`count` of them by hash, the same ones each time; all for 0."""
    order = sorted(documents, key=lambda one: hashlib.blake2b(one[0].encode(), digest_size=8).digest())
    return order[: count or len(order)]


def _write_lines(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def taught(options: argparse.Namespace, room: Path, tier: str, seed: int) -> tuple[float, float]:
    """nDCG@10 of the base model, and of what the tier learned from perfect labels or clicks."""
    own = argparse.Namespace(**{**vars(options), "tier": tier, "beir": room / "beir"})
    if options.clicks != "perfect":
        played = play_both(own, room, seed)
        return played["base"]["all"], played["champion"]["all"]
    searched, judged, seen = truth(own.beir, 0.0, seed)
    pairs = [(text, graded, 0.0) for text, graded in zip(searched.texts, searched.judgements, strict=True)]
    with line(f"titles-{tier}", room, own, seed) as made:
        before = scores(made, judged, seen)["all"]
        for number, part in enumerate(np.array_split(np.arange(len(pairs)), options.rounds)):
            made.teach(made.begin(number), graded_pairs([pairs[row] for row in range(part[-1] + 1)]))
        return before, scores(made, judged, seen)["all"]


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, required=True, help="a collection whose documents have titles")
    parser.add_argument("--clicks", choices=("perfect", *HABITS), default="perfect", help="what is learned from")
    parser.add_argument("--tiers", default="query_tower,full", help="none: the stock alone")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=8_000, help="in each round, with clicks")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--epochs", type=int, default=1, help="of the stock")
    parser.add_argument("--train", type=int, default=1_200, help="titles that train")
    parser.add_argument("--test", type=int, default=600, help="titles that are scored")
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--max-seq-length", type=int, default=64, help="tokens that both sides read")
    parser.add_argument("--set", type=lambda text: tuple(text.split("=", 1)), action="append", default=[],
                        metavar="SECTION.KEY=VALUE")  # fmt: skip
    parser.add_argument("--indexes", type=Path, help="keep document vectors here, and take them from here next time")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the collection there, and end")
    parser.add_argument("--json", action="store_true", help="the last line is JSON in any case")
    parser.set_defaults(arms=["champion"], holdout=0.0, explore=False)
    options = parser.parse_args()
    world = Titles.read(options)
    if options.write:
        say(f"{world.write(options.write)}: {len(world.train)} training titles, {len(world.test)} to score")
        return
    torch.set_num_threads(options.threads)
    options.set = [*options.set, ("trainer.max_seq_length", str(options.max_seq_length))]
    room = Path(tempfile.mkdtemp(prefix="flywheel-titles-"))
    try:
        world.write(room / "beir")
        print_result(compare(options, world, room), range(options.seeds))
    finally:
        shutil.rmtree(room, ignore_errors=True)


def compare(options: argparse.Namespace, world: Titles, room: Path) -> dict[str, Any]:
    """The stock's gain and each tier's, in nDCG@10 of the scored titles; by seed, and their share of the stock's."""
    base = world.ndcg(Encoder.load("auto", device="cpu", max_seq_length=world.max_seq_length))
    tiers = [tier for tier in options.tiers.split(",") if tier != "none"]
    gains: dict[str, list[float]] = {"stock": [], **{tier: [] for tier in tiers}}
    seconds: dict[str, list[int]] = {name: [] for name in gains}
    for seed in range(options.seeds):
        for name, found in gains.items():
            started = time.monotonic()
            if name == "stock":
                with tempfile.TemporaryDirectory() as folder:
                    gain = world.ndcg(full.stock(world, Path(folder), options.epochs, seed)) - base  # type: ignore[arg-type]
            else:
                before, after = taught(options, room, name, seed)
                gain = after - before
            found.append(round(gain, 4))
            seconds[name].append(round(time.monotonic() - started))
            say(f"{name} seed {seed}: {100 * gain:+.2f} points in {seconds[name][-1]} s")
    mean = {name: float(np.mean(of)) for name, of in gains.items()}
    return {
        "clicks": options.clicks,
        "train": len(world.train),
        "test": len(world.test),
        "documents": len(world.documents),
        "max_seq_length": world.max_seq_length,
        "base": round(base, 4),
        "gain": {name: round(value, 4) for name, value in mean.items()},
        "gains": gains,
        "share": {name: round(mean[name] / mean["stock"], 3) if mean["stock"] > 0 else None for name in tiers},
        "seconds": seconds,
    }


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
