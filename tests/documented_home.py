"""A small home for the commands of the documentation, with a broker, a daemon, and the files that the pages name."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.broker.embedded import EmbeddedBroker
from flywheel.rehearsal.people import People

WORDS = ("apple", "bridge", "candle", "desert", "engine", "forest")
WORDS += ("guitar", "harbor", "island", "jungle", "kettle", "ladder")
ASKED = [(f"q{row}-{number}", row, f"question {number} on some {word}")
         for row, word in enumerate(WORDS) for number in range(13)]  # fmt: skip
SPLITS = {"train": range(8), "test": range(8, 13)}
START_MS = 1_700_000_000_000
PERSON = "browser-17"
START_SECONDS = 300.0  # six seconds on a quiet machine
SETTINGS = {
    "TRAINER__TIER": "adapter",
    "ANALYTICS__PUBLISH_SECONDS": "10",
    "RETRAIN__ENABLED": "false",
    "SERVING__PORT": "0",
    "LIMITS__TRAIN_THREADS": "1",
}


def lay_out(room: Path) -> None:
    """Everything that a reader is told to have: a collection, judged sets, a history, logs by arm, labels."""
    for name in ("DIR", "judged", "general"):
        _collection(room / name)
    (room / "corpus.jsonl").write_text((room / "DIR" / "corpus.jsonl").read_text("utf-8"), "utf-8")
    _lines(room / "history.jsonl", list(history(sessions=1_500)))
    rng = np.random.default_rng(0)
    for name, arms in (("log.csv", ["A"] * 900 + ["B"] * 100), ("archive.csv", ["control", "treatment"] * 300)):
        with (room / name).open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("arm", "user", "pages", "clicks", "satisfied"))
            rows.writerows(
                (arm, f"u{i}", 10, *(int(n) for n in rng.binomial(10, (0.4, 0.3)))) for i, arm in enumerate(arms)
            )
    (room / "done.json").write_text(json.dumps([{"query": "what is a kettle", "doc_id": "d10", "grade": 1}]), "utf-8")


def _collection(folder: Path) -> None:
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{row}", "title": word, "text": f"all about the {word}"} for row, word in enumerate(WORDS)]
    _lines(folder / "corpus.jsonl", documents)
    _lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, _, text in ASKED])
    for split, numbers in SPLITS.items():
        rows = [f"{key}\td{row}\t1" for key, row, _ in ASKED if int(key.rpartition("-")[2]) in numbers]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n", "utf-8")


def history(sessions: int) -> Iterator[dict[str, Any]]:
    """People who search with the training questions and look at each rank with its own chance; half of them each see
    an arm of a test that the product ran by itself."""
    rng, people = np.random.default_rng(0), People("pbm")
    asked = [item for item in ASKED if int(item[0].rpartition("-")[2]) in SPLITS["train"]]
    for session in range(sessions):
        _, row, text = asked[int(rng.integers(len(asked)))]
        hits = [row, *rng.permutation([other for other in range(len(WORDS)) if other != row])[:9]]
        hits = [int(hit) for hit in rng.permutation(hits)]
        person = f"browser-{session % 300}"
        page = {"query_id": f"p{session}", "client_id": person}
        stamp = START_MS + session * 60_000
        tags = {"experiment_id": "t1", "arm": ("control", "treatment")[session % 300 % 2], "model_version": "base"}
        yield {**page, "user_query": text, "timestamp": stamp, "query_attributes": tags,
               "query_response_hit_ids": [f"d{hit}" for hit in hits]}  # fmt: skip
        did = people.react(np.array([hit == row for hit in hits]), rng)
        for place in np.flatnonzero(did.clicked):
            target = {"object": {"object_id": f"d{hits[place]}"}, "position": {"ordinal": int(place) + 1}}
            yield {**page, "action_name": "click", "timestamp": stamp + 1_000, "event_attributes": target}


def _lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


@contextmanager
def broker() -> Iterator[dict[str, str]]:
    """The environment of every command: settings of a small home, and a broker in memory."""
    with EmbeddedBroker() as started:
        settings = {**SETTINGS, "KAFKA__BOOTSTRAP": started.bootstrap}
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        yield {**quiet, **{f"FLYWHEEL__{name}": value for name, value in settings.items()}}


@contextmanager
def daemon(home: Path) -> Iterator[str]:
    """`flywheel run` on the home as a process, and where it answers searches."""
    with (home.parent / "daemon.log").open("wb") as log:
        command = [sys.executable, "-m", "flywheel.cli", "--home", str(home), "run"]
        process = subprocess.Popen(command, env=os.environ, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (home / "daemon.json").exists():
            assert process.poll() is None, (home.parent / "daemon.log").read_text()
            assert time.monotonic() < deadline
            threading.Event().wait(0.1)
        yield str(json.loads((home / "daemon.json").read_text("utf-8"))["url"])
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:  # what a busy machine did not end in time must not outlive the tests
            process.kill()
            process.wait()
