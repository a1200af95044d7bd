"""How well clicks become pairs: many habits, attacks and seeds, without training a model.

People search the training queries; pages are ranked by base vectors, and between rounds each query's vector moves
towards the positives found for it, and a little at random, as a trained champion's would. Feedback goes through the
store, the click model and the pairs' rules. Prints one JSON object last; for each habit, mean (and spread) over seeds:
`rounds` with precision, recall, coverage, expected precision and the seconds of a fit; `calibration`, the share of
relevant pairs by bins of posterior; `examination_error`, where people's examination depends on the rank alone;
`excluded_honest`; and for attacks `wrong_target_pairs` of `target_queries` (pairs of the colluders' document).

    python benchmarks/clicks.py --beir DIR --habits pbm,cascade,trust,random --attacks popular,low --seeds 3
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.click_habits import ATTACKS, CLICKS, EXAMINATION, Attack, read_for
from benchmarks.harness import print_result
from benchmarks.references import positives
from flywheel.clicks.evidence import Collected, Evidence, ScoreFeatures
from flywheel.clicks.model import ClickModel, Options, fit
from flywheel.clicks.pairs import Pairs, build
from flywheel.events import normalise_query
from flywheel.files.beir import read_corpus, read_split
from flywheel.learning.snapshot import rules_of
from flywheel.settings.load import Signals
from flywheel.store.feedback.rows import FEEDBACK, QUERIES
from flywheel.store.store import Store

START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
Floats = npt.NDArray[np.float64]


@dataclass
class World:
    """A collection's vectors, and who is relevant to what."""

    doc_ids: npt.NDArray[np.str_]
    documents: npt.NDArray[np.float32]
    texts: list[str]
    queries: npt.NDArray[np.float32]
    relevant: npt.NDArray[np.bool_]
    """(queries, documents)"""

    @staticmethod
    def read(beir: Path, split: str, vectors: Path | None) -> World:
        """Encode with the base model, or take the vectors from the file of an earlier run."""
        judged, passages = read_split(beir, split), list(read_corpus(beir))
        place = {passage.doc_id: row for row, passage in enumerate(passages)}
        relevant = np.zeros((len(judged), len(passages)), bool)
        for row, graded in enumerate(judged.judgements):
            relevant[row, [place[doc] for doc, grade in graded.items() if grade > 0 and doc in place]] = True
        if vectors is not None and vectors.exists():
            kept = np.load(vectors)
            documents, queries = kept["documents"], kept["queries"]
        else:
            from flywheel.retrieval.encoder import Encoder

            encoder = Encoder.load("auto", max_seq_length=256)
            documents = encoder.encode_documents([passage.content for passage in passages])
            queries = encoder.encode_queries(list(judged.texts))
            if vectors is not None:
                np.savez(vectors, documents=documents, queries=queries)
        rows: dict[str, int] = {}
        for row, text in enumerate(judged.texts):  # texts that are one query are relevant to what either is
            relevant[rows.setdefault(normalise_query(text), row)] |= relevant[row]
        kept_rows = list(rows.values())
        texts = [judged.texts[row] for row in kept_rows]
        return World(np.array(list(place)), documents, texts, queries[kept_rows], relevant[kept_rows])

    def pages(self, queries: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.int64]:
        """The best `size` documents of each query: (queries, size)."""
        scores = queries @ self.documents.T
        top = np.argpartition(-scores, size, axis=1)[:, :size]
        return np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), 1)


class Play:
    """One habit and seed: rounds of searching and learning in a store of its own."""

    def __init__(self, world: World, store: Store, options: argparse.Namespace, habit: str, seed: int) -> None:
        self.world, self.store, self.options, self.habit, self.seed = world, store, options, habit, seed
        self.queries = world.queries
        self.attack = ATTACKS.get(habit)
        self.target = -1
        keys = [normalise_query(text) for text in world.texts]
        self.row = {key: row for row, key in enumerate(keys)}
        self.place = {doc: row for row, doc in enumerate(world.doc_ids.tolist())}

    def search(self, number: int) -> None:
        """People search, click and leave; the feedback is written straight into the tables."""
        rng, count = np.random.default_rng([self.seed, 11, number]), self.options.sessions
        ranked = self.world.pages(self.queries, self.options.page)
        rows = rng.integers(len(ranked), size=count)
        users = np.char.add("u", rng.integers(self.options.people, size=count).astype(str))
        clicks = CLICKS[self.habit if self.attack is None else "pbm"]
        if self.attack is not None:
            rows, users, cheats = self._collude(self.attack, ranked, rows, users, rng, number)
        pages = ranked[rows]
        clicked = clicks(self.world.relevant[rows[:, None], pages], rng)
        if self.attack is not None:
            wanted = pages == self.target
            only = wanted if not self.attack.polite else np.where(wanted.any(axis=1)[:, None], wanted, clicked)
            clicked = np.where(cheats[:, None], only, clicked)
        dwell_ms = None
        if self.options.dwells:
            dwell_ms = read_for(
                self.world.relevant[rows[:, None], pages], np.random.default_rng([self.seed, 31, number])
            )
        self._write(number, rows, users, self.world.doc_ids[pages], clicked, dwell_ms)

    def _collude(
        self,
        attack: Attack,
        ranked: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        users: npt.NDArray[np.str_],
        rng: np.random.Generator,
        number: int,
    ) -> tuple[Any, Any, Any]:
        if self.target < 0:
            self.target = self._aim(attack, ranked)
        cheats = rng.random(len(rows)) < 0.05
        if attack.focused:
            showing = np.flatnonzero((ranked == self.target).any(axis=1))
            if len(showing):
                rows = np.where(cheats, rng.choice(showing, len(rows)), rows)
        names = (np.arange(len(rows)) + number * len(rows)) // (20 * attack.sessions)
        return rows, np.where(cheats, np.char.add("c", names.astype(str)), users), cheats

    def _aim(self, attack: Attack, ranked: npt.NDArray[np.int64]) -> int:
        if not attack.obscure:
            return int(np.bincount(ranked[:, attack.rank - 1]).argmax())
        wrong = ~self.world.relevant[np.arange(len(ranked))[:, None], ranked]
        wrong[:, 0] = False
        return int(np.random.default_rng([self.seed, 19]).choice(ranked[wrong]))

    def _write(
        self,
        number: int,
        rows: npt.NDArray[np.int64],
        users: Any,
        hits: Any,
        clicked: npt.NDArray[np.bool_],
        dwell: Any,
    ) -> None:
        count, page = hits.shape
        ids = np.char.add(f"{number}-", np.arange(count).astype(str))
        stamps = START_MS + (number * count + np.arange(count)) * MINUTE_MS
        texts = np.array(self.world.texts, dtype=object)[rows]
        shown = rows_of(
            QUERIES,
            query_id=ids, query_key=[normalise_query(text) for text in texts], text=texts, ts=stamps, user_key=users,
            hit_ids=pa.ListArray.from_arrays(np.arange(0, count * page + 1, page, dtype=np.int32), hits.ravel()),
            model_version=np.full(count, f"v{number}"),
        )  # fmt: skip
        session, place = np.nonzero(clicked)
        did = rows_of(
            FEEDBACK,
            event_id=np.char.add(np.char.add(ids[session], "-"), place.astype(str)), query_id=ids[session],
            kind=np.full(len(session), "click" if dwell is None else "dwell"),
            **({} if dwell is None else {"dwell_ms": dwell[session, place]}),
            doc_id=hits[session, place], rank=place + 1, ts=stamps[session] + 1_000,
            user_key=np.asarray(users)[session],
        )  # fmt: skip
        with self.store.database.write() as con:
            for name, table in (("queries", shown), ("feedback", did)):
                con.register("made_up", table)
                con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM made_up")
                con.unregister("made_up")

    def learn(self, number: int) -> dict[str, Any]:
        """Feedback to pairs, judged; the queries move towards what was found."""
        until = START_MS + (number + 1) * self.options.sessions * MINUTE_MS
        collected = self.store.evidence.collect(until, Signals())
        evidence = collected.evidence
        query, document = self.numbers(evidence)
        score = np.einsum("ij,ij->i", self.queries[query], self.world.documents[document]).astype(np.float64)
        started = time.perf_counter()
        model = fit(evidence, ScoreFeatures.of(evidence, score), Options(session_context=Signals().session_context))
        seconds = time.perf_counter() - started
        pairs = build(collected, model, rules_of(Signals()))
        found = self._judge(collected, model, pairs, self.world.relevant[query, document])
        self._move(pairs, number)
        return found | {"seconds": seconds}

    def numbers(self, evidence: Evidence) -> tuple[Any, Any]:
        """Rows of the world's queries and documents for each pair."""
        rows = np.array([self.row[key] for key in evidence.queries])
        places = np.array([self.place[doc] for doc in evidence.documents])
        return rows[evidence.pair_query], places[evidence.pair_document]

    def _judge(self, collected: Collected, model: ClickModel, pairs: Pairs, truth: Any) -> dict[str, Any]:
        positive = [(self.row[key], self.place[doc]) for key, doc in positives(pairs)]
        right = sum(bool(self.world.relevant[pair]) for pair in positive)
        expected = [p for p, label in zip(pairs.posterior, pairs.label, strict=True) if label == "positive"]
        which = np.digitize(model.posterior, BINS[1:-1])
        known = EXAMINATION.get(self.habit if self.attack is None else "pbm")
        curve = model.curve.examination
        target = collected.evidence.documents.index(self.world.doc_ids[self.target]) if self.target >= 0 else -1
        at_target = collected.evidence.pair_document == target
        honest = [user for user in collected.excluded if not user.user_key.startswith("c")]
        return {
            "precision": right / len(positive) if positive else None,
            "recall": right / self.world.relevant.sum(),
            "coverage": truth.sum() / self.world.relevant.sum(),
            "expected_precision": float(np.mean(expected)) if expected else None,
            "log_loss": _log_loss(model.posterior, truth),
            "positives": len(positive),
            "carried": _carried(collected, pairs),
            "calibration": [
                [int((which == b).sum()), float(model.posterior[which == b].sum()), int(truth[which == b].sum())]
                for b in range(len(BINS) - 1)
            ],
            "examination_error": None if known is None else float(np.abs(curve - known(_ranks(curve))).max()),
            "scheme": model.scheme,
            "excluded_honest": len(honest) / self.options.people,
            "excluded": len(collected.excluded),
            "wrong_target_pairs": sum(doc == self.target and not self.world.relevant[q, doc] for q, doc in positive),
            "target_queries": int((at_target & ~truth).sum()),
        }

    def _move(self, pairs: Pairs, number: int) -> None:
        towards, weight = np.zeros_like(self.world.queries), np.zeros(len(self.row))
        for key, doc, label, w in zip(pairs.query_key, pairs.doc_id, pairs.label, pairs.weight, strict=True):
            if label == "positive":
                towards[self.row[key]] += w * self.world.documents[self.place[doc]]
                weight[self.row[key]] += w
        learned = (weight > 0) & (np.random.default_rng([self.seed, 13]).random(len(weight)) < 0.9)
        noise = np.random.default_rng([self.seed, 17, number]).normal(size=towards.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        moved = self.world.queries + 0.15 * noise
        moved += 0.25 * learned[:, None] * towards / np.maximum(weight, 1e-9)[:, None].astype(np.float32)
        self.queries = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _log_loss(posterior: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Mean over the pairs that were shown."""
    chance = np.clip(np.where(truth, posterior, 1 - posterior), 1e-6, 1)
    return float(-np.log(chance).mean())


def _carried(collected: Collected, pairs: Pairs) -> float:
    """The share of clicks that is on positives."""
    return float(pairs.clicks[np.array(pairs.label) == "positive"].sum() / collected.evidence.clicks.sum())


def _ranks(curve: Floats) -> Floats:
    return np.arange(1, len(curve) + 1, dtype=np.float64)


def rows_of(schema: pa.Schema, **columns: Any) -> pa.Table:
    rows = len(columns["query_id"])
    columns |= {"ingested_at": np.full(rows, START_MS), "batch": np.zeros(rows, dtype=np.int64)}
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def summary(played: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over seeds of each round, and what the last round tells."""
    rounds = []
    for same in zip(*played, strict=True):
        row: dict[str, Any] = {}
        for key in (
            "precision",
            "recall",
            "coverage",
            "expected_precision",
            "log_loss",
            "positives",
            "carried",
            "seconds",
        ):
            values = [one[key] for one in same if one[key] is not None]
            row[key] = round(float(np.mean(values)), 4) if values else None
        lowest = [one["precision"] for one in same if one["precision"] is not None]
        rounds.append(row | {"lowest_precision": round(min(lowest), 4) if lowest else None})
    last = [rounds_of[-1] for rounds_of in played]
    bins = np.array([one["calibration"] for rounds_of in played for one in rounds_of]).sum(axis=0)
    calibration = [
        {"from": low, "pairs": int(n), "expected": round(p / n, 3), "relevant": round(t / n, 3)}
        for low, (n, p, t) in zip(BINS, bins, strict=False)
        if n
    ]
    errors = [one["examination_error"] for one in last if one["examination_error"] is not None]
    totals = {key: sum(one[key] for one in last) for key in ("wrong_target_pairs", "target_queries", "excluded_honest")}
    return {
        "rounds": rounds,
        "calibration": calibration,
        "examination_error": round(float(np.mean(errors)), 4) if errors else None,
        "schemes": [[one["scheme"] for one in rounds_of] for rounds_of in played],
        **totals,
    }


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beir", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--habits", default="pbm,cascade,trust,random", help=f"of {', '.join(CLICKS)}")
    parser.add_argument("--attacks", default="", help=f"of {', '.join(ATTACKS)}")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=8000, help="in each round")
    parser.add_argument("--people", type=int, default=3_000, help="who share the sessions; few make heavy users")
    parser.add_argument("--page", type=int, default=10, help="results on a page")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--dwells", action="store_true", help="clicks end: relevant documents are read for longer")
    parser.add_argument("--vectors", type=Path, help="keep the collection's vectors here (.npz), to take them from")
    options = parser.parse_args()
    world = World.read(options.beir, options.split, options.vectors)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    answer = {}
    for habit in filter(None, (*options.habits.split(","), *options.attacks.split(","))):
        played = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as room, Store.open(Path(room) / "c.duckdb", memory_gb=1.0) as store:
                play = Play(world, store, options, habit, seed)
                found = []
                for number in range(options.rounds):
                    play.search(number)
                    found.append(play.learn(number))
            played.append(found)
        answer[habit] = summary(played)
        short = [(r["precision"], r["recall"], r["expected_precision"]) for r in answer[habit]["rounds"]]
        print(habit, short, answer[habit]["schemes"], file=sys.stderr, flush=True)
    print_result({"sessions": options.sessions, "seeds": options.seeds, "habits": answer}, seeds)


if __name__ == "__main__":
    main()
