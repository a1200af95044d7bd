"""What real people's clicks teach, on a log with texts: gain in nDCG@10 by human grades over the whole collection.

Two folds of sessions: half of them teach and the other half's queries are scored (`held_out`), and turned about. Two
folds of topics likewise (`unseen`). Ways, each from the base model: `ours` is what the product makes of the clicks;
`every_click` takes every clicked pair as a positive of weight 1; `random` is the product on clicks that went to other
pages of as many documents, which keep their ranks and lose their documents.

Run it by `python -m benchmarks.real learning`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.app import now_ms, open_installation, open_local
from flywheel.clicks.evidence import ScoreFeatures
from flywheel.clicks.model import Options, fit
from flywheel.clicks.pairs import build
from flywheel.daemon.local import Installation
from flywheel.learning.snapshot import NothingToLearn, rules_of
from flywheel.settings.home import Home
from flywheel.settings.load import load
from flywheel.stats.metrics import parse_metric
from flywheel.store.training.runs import TrainingRun
from trainer.data.recipe import ResourceBudget
from trainer.process.launch import launch, read_report

FOLDS = 2
PARTS = ("held_out", "unseen")
WAYS = ("ours", "every_click", "random")
_DRAWS = 2_000
Json = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """Pages with their texts, documents, and grades by topic."""

    pages: list[Json]
    feedback: dict[str, list[Json]]
    documents: list[Json]
    grades: dict[str, dict[str, float]]

    @staticmethod
    def read(folder: Path) -> Log:
        pages = _lines(folder / "pages.jsonl.gz")
        feedback: dict[str, list[Json]] = {}
        for record in _lines(folder / "feedback.ndjson.gz"):
            feedback.setdefault(record["query_id"], []).append(record)
        grades: dict[str, dict[str, float]] = {}
        with gzip.open(folder / "grades.tsv.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                topic, doc_id, grade = line.rstrip("\n").split("\t")
                grades.setdefault(topic, {})[doc_id] = max(0.0, float(grade))
        return Log(pages, feedback, _lines(folder / "documents.jsonl.gz"), grades)

    def fold(self, part: str, number: int) -> tuple[list[Json], list[Json]]:
        """Pages that train, and the others: of the other half of the sessions, or of the topics for `unseen`."""
        by = "judged" if part == "unseen" else "session"
        names = sorted({page[by] for page in self.pages})
        lots = np.random.default_rng(11).permutation(len(names)) % FOLDS
        out = {name for name, lot in zip(names, lots, strict=True) if lot == number}
        return [page for page in self.pages if page[by] not in out], [page for page in self.pages if page[by] in out]

    def records(self, pages: list[Json]) -> list[Json]:
        """The feedback on these pages, as it came."""
        return [record for page in pages for record in self.feedback[page["page"]]]


def _lines(path: Path) -> list[Json]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def exchanged(pages: list[Json], records: list[Json], rng: np.random.Generator) -> list[Json]:
    """The same searches; each page's clicks go to another page with as many documents, at the ranks that they had."""
    shown = {page["page"]: page for page in pages}
    to: dict[str, str] = {}
    for width in {len(page["docs"]) for page in pages}:
        alike = [page["page"] for page in pages if len(page["docs"]) == width]
        to |= dict(zip(alike, rng.permutation(alike).tolist(), strict=True))
    found = []
    for record in records:
        if "action_name" not in record:
            found.append(record)
            continue
        page, other = shown[record["query_id"]], shown[to[record["query_id"]]]
        doc_id = record["event_attributes"]["object"]["object_id"]
        if doc_id not in page["docs"]:
            continue
        place = page["docs"].index(doc_id)
        event = record["event_attributes"]
        found.append(
            {
                **record, "query_id": other["page"], "timestamp": other["ts_ms"] + 1_000,
                "client_id": None, "session_id": None,
                "event_attributes": {**event, "object": {"object_id": other["docs"][place]}},
            }
        )  # fmt: skip
    return found


@contextmanager
def _home(room: Path, log: Log, records: list[Json]) -> Iterator[Installation]:
    """A home with the documents and these records."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    Home(room).init()
    with open_local(room, environ) as operations:
        operations.import_records("documents", log.documents)
        operations.import_records("feedback", records)
    with open_installation(Home(room), load(room, environ), threading.Event()) as parts:
        parts.indexers.of("base").catch_up()
        yield parts


def _run(parts: Installation, number: int, tier: str, seed: int) -> TrainingRun:
    run = TrainingRun(
        f"run-{number:04d}", "manual", tier, "started", now_ms(), parent="base",
        version=parts.registry.next_version(), seed=seed, until_ms=parts.store.feedback.latest_ms(),
    )  # fmt: skip
    parts.store.runs.start(run, "benchmark")
    return run


def _gather(parts: Installation, run: TrainingRun, way: str) -> bool:
    """Write the run's pairs; False where there is nothing to learn."""
    if way != "every_click":
        try:
            parts.learning.gather(run)
        except NothingToLearn:
            return False
        return True
    signals = parts.config.signals
    collected = parts.store.evidence.collect(run.until_ms or 0, signals)
    evidence = collected.evidence
    model = fit(evidence, ScoreFeatures.of(evidence, np.zeros(evidence.pairs)), Options(session_context=True))
    clicked = evidence.pair_clicks() > 0
    model = replace(model, posterior=np.where(clicked, 1.0, 0.0), pull=np.zeros(evidence.pairs))
    parts.store.pairs.write(run.run_id, build(collected, model, rules_of(signals)))
    return True


def _trained(parts: Installation, run: TrainingRun) -> str:
    folder, version = parts.learning.snapshot(run), str(run.version)
    out = parts.registry.path(version)
    process = launch(folder, out, replace(ResourceBudget.of(parts.config.limits), threads=2))
    if process.wait():
        raise RuntimeError(f"training failed: {(read_report(out) or {}).get('error')}")
    parts.registry.adopt(version)
    parts.indexers.of(version).catch_up()
    return version


def _scores(parts: Installation, version: str, log: Log, pages: list[Json]) -> np.ndarray:
    """nDCG@10 of each page's query by its topic's grades; NaN where the topic has none."""
    vectors = parts.registry.encoder(version).encode_queries([page["query"] for page in pages])
    ranked = parts.indexers.of(version).index.search(vectors, 10)[0]
    return np.asarray(parse_metric("ndcg@10")(ranked, [log.grades.get(page["judged"], {}) for page in pages]))


def learning(folder: Path, tier: str, seeds: range, ways: tuple[str, ...] = WAYS) -> Json:
    """By way and part: mean gain over seeds and folds with its 90 % interval, topics resampled."""
    log = Log.read(folder)
    rows: list[Json] = []
    for part, fold in itertools.product(PARTS, range(FOLDS)):
        train, others = log.fold(part, fold)
        plain = log.records(train)
        with tempfile.TemporaryDirectory() as room:
            for way, seed in itertools.product(ways, seeds):
                home, records = Path(room) / "plain", plain
                if way == "random":
                    home = Path(room) / f"random-{seed}"
                    records = exchanged(train, plain, np.random.default_rng([seed, 29]))
                made = _one(home, log, records, way, tier, seed, others)
                rows += [{"way": way, "part": part, **row} for row in made]
    return {"tier": tier, "ways": {way: _summary([row for row in rows if row["way"] == way]) for way in ways}}


def _one(home: Path, log: Log, records: list[Json], way: str, tier: str, seed: int, pages: list[Json]) -> list[Json]:
    started = time.monotonic()
    with _home(home, log, records) if not home.exists() else _again(home) as parts:
        run = _run(parts, len(parts.store.runs.all()) + 1, tier, seed)
        learned = _gather(parts, run, way)
        version = _trained(parts, run) if learned else "base"
        parts.store.runs.finish(run.run_id, "done" if learned else "refused", now_ms())
        gain = _scores(parts, version, log, pages) - _scores(parts, "base", log, pages)
    mean = 100 * float(np.nanmean(gain))
    print(f"{way} seed {seed}: {mean:.2f} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return [
        {"topic": page["judged"], "gain": float(one), "learned": learned}
        for page, one in zip(pages, gain, strict=True)
        if np.isfinite(one)
    ]


@contextmanager
def _again(home: Path) -> Iterator[Installation]:
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with open_installation(Home(home), load(home, environ), threading.Event()) as parts:
        yield parts


def _summary(rows: list[Json]) -> Json:
    found: Json = {"learned": float(np.mean([row["learned"] for row in rows]))}
    rng = np.random.default_rng(5)
    for part in PARTS:
        of = [row for row in rows if row["part"] == part]
        topics, which = np.unique([row["topic"] for row in of], return_inverse=True)
        gain, count = np.bincount(which, [row["gain"] for row in of]), np.bincount(which)
        draws = rng.multinomial(len(topics), np.full(len(topics), 1 / len(topics)), size=_DRAWS)
        drawn = 100 * (draws @ gain) / (draws @ count)
        low, high = np.quantile(drawn, [0.05, 0.95])
        wide_low, wide_high = np.quantile(drawn, [0.025, 0.975])
        found[part] = {
            "gain": 100 * float(gain.sum() / count.sum()), "low_90": float(low), "high_90": float(high),
            "low_95": float(wide_low), "high_95": float(wide_high), "queries": len(of), "topics": len(topics),
        }  # fmt: skip
    return found
