"""A small world for whole turns of the wheel: real text, the real model, simulated people, and no broker.

The training questions are searched; all others are the golden set, with the searched ones in other words, so that what
clicks teach moves it by far more than chance. Feedback comes in as an import.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.references import ranked
from flywheel.app import open_local
from flywheel.daemon.local import LocalOperations
from flywheel.rehearsal import corpus, questions
from flywheel.rehearsal.people import SILENT, Habit, People
from flywheel.settings.home import Home

SETTINGS = {
    "FLYWHEEL__TRAINER__STEPS": "60",
    "FLYWHEEL__TRAINER__DEV_SHARE": "0.05",
    "FLYWHEEL__PROMOTION__ALPHA": "0.4",
    "FLYWHEEL__PROMOTION__MARGIN": "0.2",
    "FLYWHEEL__PROMOTION__MIN_QUERIES": "20",
    "FLYWHEEL__PROMOTION__MIN_UNSEEN": "2",
    "FLYWHEEL__LIMITS__TRAIN_THREADS": "2",
    "HF_HUB_OFFLINE": "1",
}
DOCUMENTS = 1_500


def furnish(home: Path, environ: dict[str, str]) -> None:
    """A home with documents, their index and a golden set; nobody has searched yet."""
    Home(home).init()
    everything = {document.doc_id: document for document in corpus.build().documents}
    asked = questions.load(everything).asked
    answers = dict.fromkeys(doc for item in asked for doc, grade in item.answers.items() if grade == 2)
    kept = set(list(answers | dict.fromkeys(everything))[:DOCUMENTS])
    documents = [
        {"doc_id": key, "title": everything[key].title, "text": everything[key].text[:80]} for key in sorted(kept)
    ]
    golden = [_reworded(item) if item.split == "train" else item for item in asked if kept & set(item.answers)]
    with open_local(home, environ) as operations:
        operations.import_records("documents", documents)
        operations.import_judged(
            "golden",
            "questions",
            [{"id": item.id, "text": item.text} for item in golden],
            [
                {"query_id": item.id, "doc_id": doc, "grade": grade}
                for item in golden
                for doc, grade in item.answers.items()
                if doc in kept
            ],
        )
        operations._in.indexers.of("base").catch_up()


def _reworded(asked: questions.Question) -> questions.Question:
    """Another query for the same documents: no click on the first is a click on it."""
    return msgspec.structs.replace(asked, id=f"{asked.id}-reworded", text=f"please tell me: {asked.text}")


def search_and_click(operations: LocalOperations, habit: Habit = "pbm", *, sessions: int = 4_000, seed: int = 0) -> int:
    """Simulated people search with the training questions and click; returns how many events were stored."""
    rng = np.random.default_rng(seed)
    known = set(ranked(operations._in, ["anything"], DOCUMENTS)[0])
    asked = [item for item in questions.load(known).asked if item.split == "train"]
    pages = ranked(operations._in, [item.text for item in asked], 10)
    people, numbers = People(habit, SILENT), itertools.count()
    records: list[dict[str, Any]] = []
    for session in range(sessions):
        row = int(rng.integers(len(asked)))
        relevant = np.array([asked[row].answers.get(doc, 0) == 2 for doc in pages[row]])
        page = {"query_id": f"{habit}-{seed}-{session}", "client_id": f"c{session % 900}"}
        stamp = 1_700_000_000_000 + seed * 1_000_000_000 + session * 60_000
        records.append(
            {**page, "user_query": asked[row].text, "timestamp": stamp, "query_response_hit_ids": pages[row]}
        )
        records += [
            {
                **page,
                "action_name": "click",
                "timestamp": stamp + 1_000,
                "event_attributes": {
                    "event_id": f"{habit}-{seed}-{next(numbers)}",
                    "object": {"object_id": pages[row][place]},
                    "position": {"ordinal": int(place) + 1},
                },
            }
            for place in np.flatnonzero(people.react(relevant, rng).clicked)
        ]
    return int(operations.import_records("feedback", records)["stored"])
