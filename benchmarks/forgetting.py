"""What a model loses of earlier domains while it learns later ones, over one index of all their documents.

The domains arrive one after the other; each round brings a fresh part of a domain's training queries with perfect
labels, and the trainer goes on from its own last model. `ours` is the configured recipe (replay, distillation on what
is replayed, probes, merging); `naive` trains on the new pairs alone. A domain most of whose judgements are explicit
zeros is scored judged-only, and of it only grades above half of the highest are taught; lower ones are masked.

`forgetting` of a domain is nDCG@10 on its test queries at the end of its own phase minus that at the very end, as a
mean over seeds with its 95 % interval (Student's t); `before_own_phase` is the change from base just before it came.
With `--holdout 0.5` that share of each domain's training queries is taught to nobody and scored instead of the test
split: what settings are to be chosen by.

    python benchmarks/forgetting.py --data DIR --rounds 10 --seeds 3 --order acord,cranfield,scifact
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import print_result
from benchmarks.learning import Line, line, say
from benchmarks.learning_world import graded_pairs, truth
from benchmarks.references import ranked
from flywheel.files.beir import Judged, read_corpus
from flywheel.stats.metrics import parse_metric

ORDER = "scifact,acord,cranfield"
NAIVE = [(f"trainer.{key}", value) for key, value in
         (("replay_size", "0"), ("distil", "0"), ("merge", "1.0"), ("probes", "0"))]  # fmt: skip
METRIC = "ndcg@10"


@dataclass(frozen=True)
class Domain:
    """A collection with document ids that say whose they are."""

    name: str
    train: Judged
    test: Judged
    judged_only: bool
    floor: float

    @classmethod
    def read(cls, folder: Path, holdout: float = 0.0) -> Domain:
        """Its queries and judgements; the documents are read by `gather`."""
        train, test = (_own(folder.name, judged) for judged in truth(folder, holdout, seed=0)[:2])
        grades = [grade for graded in (*train.judgements, *test.judgements) for grade in graded.values()]
        judged_only = sum(grade <= 0 for grade in grades) > len(grades) / 2
        return cls(folder.name, train, test, judged_only, floor=max(grades) / 2 if judged_only else 0.0)


def _own(name: str, judged: Judged) -> Judged:
    graded = tuple({f"{name}-{doc}": grade for doc, grade in one.items()} for one in judged.judgements)
    return Judged(judged.ids, judged.texts, graded)


def gather(data: Path, names: Sequence[str], folder: Path) -> Path:
    """One corpus of all domains' documents."""
    folder.mkdir()
    with (folder / "corpus.jsonl").open("w") as out:
        for name in sorted(names):
            for passage in read_corpus(data / name):
                record = {"_id": f"{name}-{passage.doc_id}", "title": passage.title, "text": passage.text}
                out.write(json.dumps(record) + "\n")
    return folder


def score(made: Line, domain: Domain) -> float:
    """Mean nDCG@10 of the line's latest model on a domain's test queries."""
    judged, metric = domain.test, parse_metric(METRIC)
    if not domain.judged_only:
        return float(metric(ranked(made.parts, list(judged.texts), 10), judged.judgements).mean())
    queries = made.parts.registry.encoder(made.version).encode_queries(list(judged.texts))
    index = made.parts.indexers.of(made.version).index
    orders = []
    for vector, graded in zip(queries, judged.judgements, strict=True):
        names = list(graded)
        order = np.argsort(-(index.vectors(names) @ vector), kind="stable")
        orders.append([names[place] for place in order])
    return float(metric(orders, judged.judgements).mean())


def phases(domains: Sequence[Domain], rounds: int) -> list[int]:
    """Rounds of each domain: even, and the rest to those with the most training queries."""
    share, rest = divmod(rounds, len(domains))
    most = sorted(range(len(domains)), key=lambda i: -len(domains[i].train))[:rest]
    return [share + (i in most) for i in range(len(domains))]


def learn(made: Line, domains: Sequence[Domain], rounds: int, seed: int) -> dict[str, Any]:
    """All phases; scores of every domain at the start, before and after its own phase, and at the end."""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    base = {domain.name: score(made, domain) for domain in domains}
    known: list[tuple[str, dict[str, float], float]] = []
    number = 0
    for domain, turns in zip(domains, phases(domains, rounds), strict=True):
        before[domain.name] = score(made, domain)
        order = np.random.default_rng([seed, 13]).permutation(len(domain.train))
        for part in np.array_split(order, turns):
            known += [(domain.train.texts[row], domain.train.judgements[row], domain.floor) for row in part]
            made.teach(made.begin(number), graded_pairs(known))
            number += 1
        after[domain.name] = score(made, domain)
        say(f"{made.name} after {domain.name}: {after[domain.name]:.4f} from {base[domain.name]:.4f}")
    final = {domain.name: score(made, domain) for domain in domains}
    return {"base": base, "before": before, "after": after, "final": final}


def summary(played: list[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Over seeds: final scores, what was forgotten of earlier domains, what the newest gained."""
    newest = names[-1]
    gains = [one["final"][newest] - one["base"][newest] for one in played]
    return {
        "final": {name: _interval([one["final"][name] for one in played])["mean"] for name in names},
        "forgetting": {name: _interval([one["after"][name] - one["final"][name] for one in played])
                       for name in names[:-1]},
        "newest_gain": _interval(gains),
        "before_own_phase": {name: _interval([one["before"][name] - one["base"][name] for one in played])
                             for name in names[1:]},
    }  # fmt: skip


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    reach = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5)
    return {"mean": round(mean, 4), "low": round(mean - reach, 4), "high": round(mean + reach, 4)}


def compare(options: argparse.Namespace, domains: Sequence[Domain], room: Path, tier: str) -> dict[str, Any]:
    """Both ways with one tier, over the seeds."""
    names = [domain.name for domain in domains]
    found: dict[str, Any] = {}
    for way in options.ways.split(","):
        settings, played = NAIVE if way == "naive" else list(options.set), []
        for seed in range(options.seeds):
            here = argparse.Namespace(beir=options.together, indexes=options.indexes, set=settings, tier=tier)
            with line(f"{way}-{tier}", room, here, seed) as made:
                played.append(learn(made, domains, options.rounds, seed))
            say(f"{tier} {way} seed {seed}: {played[-1]}")
        found[way] = summary(played, names)
        found["base"] = played[0]["base"]
    if "ours" in found and "naive" in found:
        naive = found["naive"]["newest_gain"]["mean"]
        found["newest_gain_ratio"] = round(found["ours"]["newest_gain"]["mean"] / naive, 3) if naive > 0 else None
    return found


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a BEIR folder for each domain")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--order", default=ORDER, help="domains in the order in which they arrive")
    parser.add_argument("--tiers", default="query_tower", help="the first is the one reported at the top")
    parser.add_argument("--holdout", type=float, default=0.0, help="score this share of the training queries instead")
    parser.add_argument("--ways", default="ours,naive", help="ours, naive or both; the two share nothing but the seeds")
    parser.add_argument("--set", type=lambda text: tuple(text.split("=", 1)), action="append", default=[],
                        metavar="SECTION.KEY=VALUE", help="a setting of `ours`")  # fmt: skip
    parser.add_argument("--indexes", type=Path, help="keep document vectors here, and take them from here next time")
    options = parser.parse_args()
    room, started = Path(tempfile.mkdtemp(prefix="flywheel-forgetting-")), time.monotonic()
    try:
        names = options.order.split(",")
        domains = [Domain.read(options.data / name, options.holdout) for name in names]
        options.together = gather(options.data, names, room / "together")
        tiers = {tier: compare(options, domains, room, tier) for tier in options.tiers.split(",")}
        first = next(iter(tiers.values()))
        facts = {"order": names, "rounds": options.rounds, "seeds": options.seeds}
        found = {**facts, **first, "tiers": tiers, "seconds": round(time.monotonic() - started, 1)}
        print_result(found, range(options.seeds))
    finally:
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
