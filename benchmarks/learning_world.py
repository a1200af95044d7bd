"""The simulated side of `learning.py`: who searches, what is relevant, and what perfect labels would have said."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator

from benchmarks.exploration_arm import Arm
from flywheel.clicks.evidence import Collected, Evidence, PairFacts
from flywheel.clicks.model import CONTEXTS, ClickModel, Curve
from flywheel.clicks.pairs import COUNTS, Pairs, build
from flywheel.events import normalise_query
from flywheel.files.beir import Judged, read_split
from flywheel.learning.snapshot import rules_of
from flywheel.rehearsal.people import SILENT, Habit, People, Reactions
from flywheel.settings.load import Signals

START_MS = 1_700_000_000_000
PEOPLE = 3_000
Relevant = Mapping[str, frozenset[str]]


def truth(beir: Path, holdout: float, seed: int) -> tuple[Judged, Judged, list[bool]]:
    """The queries that people search, those that are scored, and which of the latter are about documents trained on."""
    searched, judged = read_split(beir, "train"), None
    if holdout > 0:
        order = np.random.default_rng([seed, 7]).permutation(len(searched))
        cut = int(len(searched) * holdout)
        searched, judged = _some(searched, order[cut:]), _some(searched, order[:cut])
    judged = judged or read_split(beir, "test")
    known = {doc for graded in searched.judgements for doc, grade in graded.items() if grade > 0}
    seen = [any(grade > 0 and doc in known for doc, grade in graded.items()) for graded in judged.judgements]
    return searched, judged, seen


def _some(judged: Judged, rows: Sequence[int] | np.ndarray[Any, Any]) -> Judged:
    columns = (judged.ids, judged.texts, judged.judgements)
    ids, texts, judgements = (tuple(column[int(row)] for row in rows) for column in columns)
    return Judged(ids, texts, judgements)  # type: ignore[arg-type]  # three columns of one shape


class Searchers:
    """People of one habit who search with the judged queries and click on pages of ten."""

    def __init__(self, judged: Judged, habit: Habit, sessions: int, seed: int) -> None:
        self.texts = list(judged.texts)
        self._answers = [frozenset(doc for doc, grade in graded.items() if grade > 0) for graded in judged.judgements]
        self.relevant: dict[str, frozenset[str]] = {}
        for text, answers in zip(self.texts, self._answers, strict=True):
            key = normalise_query(text)
            self.relevant[key] = self.relevant.get(key, frozenset()) | answers
        self._people, self._sessions, self._seed = People(habit, SILENT), sessions, seed
        self._shown: set[tuple[str, str]] = set()
        self._target: str | None = None
        self._targeted: set[str] = set()

    def search(
        self, pages: Sequence[Sequence[str]], number: int, arm: Arm | None = None, part: int = 0
    ) -> list[dict[str, Any]]:
        """UBI queries and events of one round, where query i of `texts` is answered with `pages[i]`.

        With an arm they are those of one of its parts of the round, and it may put documents into each page.
        """
        count = self._sessions if arm is None else self._sessions // arm.parts
        first = part * count
        rng = np.random.default_rng([self._seed, 11, number] if arm is None else [self._seed, 11, number, part])
        rows = rng.integers(len(self.texts), size=count)
        users = rng.integers(PEOPLE, size=count)
        page_docs = [list(pages[row]) for row in rows]
        if self._target is None:  # the colluders' document: the one that is shown most
            names, counts = np.unique([doc for page in pages for doc in page], return_counts=True)
            self._target = str(names[counts.argmax()])
        names = [f"{number}-{first + session}" for session in range(count)]
        notes: list[dict[str, Any]] = [{}] * count
        if arm is not None:  # the same people on the pages as they would have been: what exploring costs
            arm.clicks_without += int(self._react(rows, users, page_docs, copy.deepcopy(rng)).clicked.sum())
            page_docs, notes = arm.place([self.texts[row] for row in rows], page_docs, names)
        did = self._react(rows, users, page_docs, rng)
        if arm is not None:
            arm.clicks += int(did.clicked.sum())
        records: list[dict[str, Any]] = []
        for session, (row, page) in enumerate(zip(rows, page_docs, strict=True)):
            key = normalise_query(self.texts[row])
            self._shown.update((key, doc) for doc in page if doc in self.relevant[key])
            if self._target in page and self._target not in self.relevant[key]:
                self._targeted.add(key)
            name, client = names[session], f"c{users[session]}"
            stamp = START_MS + (number * self._sessions + first + session) * 60_000
            common = {"query_id": name, "client_id": client}
            shown = {"query_response_hit_ids": page, "query_attributes": notes[session]}
            records.append({**common, "user_query": self.texts[row], "timestamp": stamp, **shown})
            for place in np.flatnonzero(did.clicked[session]):
                where = {"object": {"object_id": page[place]}, "position": {"ordinal": int(place) + 1}}
                attributes = {"event_id": f"{name}-{place}", **where}
                records.append(
                    {**common, "action_name": "click", "timestamp": stamp + 1_000, "event_attributes": attributes}
                )
        return records

    def _react(
        self, rows: np.ndarray[Any, Any], users: np.ndarray[Any, Any], pages: Sequence[Sequence[str]], rng: Generator
    ) -> Reactions:
        hit = np.array([[doc in self._answers[row] for doc in page] for row, page in zip(rows, pages, strict=True)])
        target = np.array([[doc == self._target for doc in page] for page in pages])
        return self._people.react(hit, rng, colluding=self._people.colludes(users), target=target)

    def coverage(self) -> float:
        """Share of the relevant pairs that any page has shown."""
        return len(self._shown) / sum(len(answers) for answers in self.relevant.values())

    def precision_recall(self, pairs: pa.Table) -> tuple[float, float]:
        """Share of the positives that are relevant, and of the relevant pairs that are positives."""
        found = _positives(pairs)
        right = sum(doc in self.relevant.get(key, ()) for key, doc in found)
        return right / max(1, len(found)), right / sum(len(answers) for answers in self.relevant.values())

    def poisoned(self, pairs: pa.Table) -> tuple[int, int]:
        """Queries where the colluders' document is a positive and does not belong, of those that showed it so."""
        wrong = sum(doc == self._target and doc not in self.relevant.get(key, ()) for key, doc in _positives(pairs))
        return wrong, len(self._targeted)

    def everything(self) -> Collected:
        """Every relevant pair, as though it had been shown once."""
        texts = {normalise_query(text): text for text in self.texts}
        return _shown_once(texts, [(key, doc) for key in self.relevant for doc in sorted(self.relevant[key])])


def _positives(pairs: pa.Table) -> list[tuple[str, str]]:
    """(query key, document) of each positive."""
    columns = (pairs[name].to_pylist() for name in ("query_key", "doc_id", "label"))
    return [(key, doc) for key, doc, label in zip(*columns, strict=True) if label == "positive"]


def _shown_once(texts: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> Collected:
    """Evidence of one impression and no click for each (query key, document); `texts` by key."""
    documents = tuple(sorted({doc for _, doc in pairs}))
    query, place = {key: row for row, key in enumerate(texts)}, {doc: row for row, doc in enumerate(documents)}
    count = len(pairs)
    zeros, counts = np.zeros(count), np.zeros(count, np.int64)
    evidence = Evidence(
        queries=tuple(texts),
        documents=documents,
        pair_query=np.array([query[key] for key, _ in pairs], np.int32),
        pair_document=np.array([place[doc] for _, doc in pairs], np.int32),
        measured=zeros,
        satisfied=zeros,
        bounced=zeros,
        pair=np.arange(count, dtype=np.int32),
        rank=np.ones(count, np.int32),
        above=np.zeros(count, np.int32),
        impressions=np.ones(count),
        clicks=zeros,
        set_start=np.zeros(2, np.int64),
        set_pairs=np.empty(0, np.int32),
    )
    stamps = {"first_ms": counts + START_MS, "last_ms": counts + START_MS}
    facts = PairFacts(**dict.fromkeys(COUNTS, counts), **stamps, model_versions=((),) * count)
    return Collected(evidence, facts, tuple(texts.values()), START_MS)


def graded_pairs(judged: Sequence[tuple[str, Mapping[str, float], float]]) -> Pairs:
    """Pairs of (query, grades, floor): grades above the floor are positive, others above 0 ambiguous."""
    texts = {normalise_query(text): text for text, _, _ in judged}
    grades = {
        (normalise_query(text), doc): (grade, floor) for text, graded, floor in judged for doc, grade in graded.items()
    }
    pairs = sorted(pair for pair, (grade, _) in grades.items() if grade > 0)
    posterior = np.array([1.0 if grades[pair][0] > grades[pair][1] else 0.5 for pair in pairs])
    return _with(_shown_once(texts, pairs), posterior)


def labelled(collected: Collected, relevant: Relevant) -> Pairs:
    """Pairs of that evidence with the true labels: relevant ones are positives, the others get none."""
    evidence = collected.evidence
    pairs = zip(evidence.pair_query, evidence.pair_document, strict=True)
    known = [evidence.documents[doc] in relevant.get(evidence.queries[query], ()) for query, doc in pairs]
    return _with(collected, np.where(known, 1.0, 0.0))


def _with(collected: Collected, posterior: np.ndarray[Any, np.dtype[np.float64]]) -> Pairs:
    flat = np.full((1, CONTEXTS), 0.5)
    curve = Curve(flat, flat, flat, np.full(3, 1 / 3), np.full(3, 1 / 3))
    none = np.zeros(len(posterior))
    model = ClickModel(curve, posterior, posterior, none, 0, converged=True, gain=0.0, clear=10.0)
    return build(collected, model, rules_of(Signals()))
