"""A small world for tests of the shadow: two rankers over known click rates, and the log of pages that they leave."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.experiments.shadow import Shadow
from flywheel.store.feedback.rows import FEEDBACK, QUERIES
from flywheel.store.store import Store
from tests import defaults

QUERY_COUNT, DOCUMENTS, DEPTH = 40, 12, 5
START_MS = 1_700_000_000_000
LATER_MS = START_MS + 10 * 86_400_000
RELEVANT = 0.5 / np.arange(1, DEPTH + 1) ** 0.8
OTHER = 0.06 / np.arange(1, DEPTH + 1) ** 0.7
SATISFIED = 0.5
Rankings = npt.NDArray[np.int64]


@dataclass
class Lists:
    """A side whose ranking of each query is given; it stands for encoder and index, which tests elsewhere are real."""

    order: Rankings
    asked: list[str] = field(default_factory=list)

    def encode_queries(self, texts: list[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        return np.array([[float(text.removeprefix("q"))] for text in texts], dtype=np.float32)

    def search(self, vectors: npt.NDArray[np.float32], k: int) -> tuple[list[list[str]], npt.NDArray[np.float32]]:
        return [[f"d{d}" for d in self.order[int(row[0])][:k]] for row in vectors], np.zeros(
            (len(vectors), k), np.float32
        )


class World:
    """Queries, relevance, and two rankers; `gain` moves relevant documents up in the challenger's, or down."""

    def __init__(self, seed: int, *, gain: float = 0.6) -> None:
        self.rng = np.random.default_rng(seed)
        self.relevant = self.rng.random((QUERY_COUNT, DOCUMENTS)) < 0.25
        ours = self.relevant + self.rng.normal(0, 1, self.relevant.shape)
        theirs = ours + gain * self.relevant + self.rng.normal(0, 0.4, ours.shape)
        self.champion, self.challenger = (np.argsort(-score, axis=1)[:, :DEPTH] for score in (ours, theirs))
        self.asked = 1 / np.arange(1, QUERY_COUNT + 1)
        self.asked /= self.asked.sum()

    def value(self, order: Rankings) -> float:
        """Satisfied clicks a page, exactly."""
        hit = np.take_along_axis(self.relevant, order, axis=1)
        return float(self.asked @ np.where(hit, RELEVANT, OTHER).sum(axis=1)) * SATISFIED

    @property
    def truth(self) -> float:
        return self.value(self.challenger) - self.value(self.champion)

    def fill(self, store: Store, pages: int, *, mixed: bool = False, batch: int = 500) -> None:
        """Pages by heavy-tailed users of unlike mood. `mixed`: half are the challenger's, with propensities logged."""
        rng = self.rng
        busy = (rng.pareto(1.6, 600) + 0.2).clip(max=30)
        mood = rng.lognormal(0, 0.4, 600)
        mood /= mood @ busy / busy.sum()
        who, query = rng.choice(600, pages, p=busy / busy.sum()), rng.choice(QUERY_COUNT, pages, p=self.asked)
        ours, theirs = self.champion[query], self.challenger[query]
        shown = np.where(mixed & (rng.random(pages) < 0.5)[:, None], theirs, ours)
        rate = np.where(self.relevant[query[:, None], shown], RELEVANT, OTHER) * SATISFIED * mood[who][:, None]
        clicked, place = np.nonzero(rng.random(shown.shape) < rate)
        hits = [[f"d{d}" for d in row] for row in shown]
        ts = START_MS + np.sort(rng.integers(0, 5 * 86_400_000, pages))
        ids = [f"p{number}" for number in range(pages)]
        logged = {"propensities": np.where(ours == theirs, 1.0, 0.5).tolist()} if mixed else {}
        columns = {"query_key": [f"q{q}" for q in query], "user_key": [f"u{u}" for u in who], "hit_ids": hits, **logged}
        batches = np.arange(pages) // batch + 1
        columns |= {"query_id": ids, "text": columns["query_key"], "ts": ts, "ingested_at": ts, "batch": batches}
        dwells = {"query_id": [ids[page] for page in clicked], "kind": ["dwell"] * len(clicked)}
        dwells |= {"doc_id": [hits[page][at] for page, at in zip(clicked, place, strict=True)]}
        dwells |= {"event_id": [f"e{n}" for n in range(len(clicked))], "dwell_ms": np.full(len(clicked), 60_000)}
        dwells |= {"ts": ts[clicked] + 1_000, "ingested_at": ts[clicked], "batch": batches[clicked]}
        insert(store, "queries", rows(QUERIES, columns))
        insert(store, "feedback", rows(FEEDBACK, dwells))

    def learn(self, store: Store, *, noise: float = 0.15) -> None:
        """A run's click curve, and posteriors that are only roughly right."""
        sure = np.where(self.relevant, 0.85, 0.1) + self.rng.normal(0, noise, self.relevant.shape)
        count = self.relevant.size
        curve = {"rank": np.arange(1, DEPTH + 1), "context": np.zeros(DEPTH, int), "impressions": np.full(DEPTH, 1e3)}
        curve |= {"run_id": ["r"] * DEPTH, "relevant_rate": RELEVANT, "irrelevant_rate": OTHER}
        insert(store, "click_curves", pa.table(curve))
        names = np.repeat([f"q{q}" for q in range(QUERY_COUNT)], DOCUMENTS)
        pairs = {"run_id": ["r"] * count, "query_key": names, "query": names, "label": ["ambiguous"] * count}
        pairs |= {"doc_id": [f"d{d}" for d in range(DOCUMENTS)] * QUERY_COUNT, "weight": np.zeros(count)}
        pairs |= {"posterior": np.clip(sure, 0.02, 0.98).ravel(), "clicks": np.full(count, 10.0)}
        insert(store, "pairs", pa.table(pairs | {"satisfied": np.full(count, 5)}))

    def shadow(self, store: Store, **policy: object) -> Shadow:
        """A shadow of the two, begun."""
        reading = defaults.reading(depth=DEPTH, cap=1_000_000)
        settings: dict[str, object] = {"timed": 0, "reading": reading, "step_pages": 1_000, "pages": 1} | policy
        shadow = Shadow(store.shadows, "e", defaults.shadowing(**settings), lambda: 0.0)
        shadow.begin("r", 0)
        return shadow


def rows(schema: pa.Schema, columns: dict[str, object]) -> pa.Table:
    """The columns given, and nulls for the others of the table."""
    count = len(columns["query_id"])  # type: ignore[arg-type]
    arrays = [
        pa.array(columns[name]).cast(kind) if name in columns else pa.nulls(count, kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def insert(store: Store, table: str, written: pa.Table) -> None:
    """Straight into the table."""
    with store.database.write() as con:
        con.register("made_up", written)
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM made_up")
        con.unregister("made_up")
