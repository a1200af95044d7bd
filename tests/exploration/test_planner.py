"""The planner over a real store, click model and index: what the champion misses is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flywheel.events import Document, Event, Kind, Query
from flywheel.exploration.planner import Planner
from flywheel.rehearsal.people import SILENT, People
from flywheel.retrieval.bm25_shared import Words
from flywheel.retrieval.index import Index
from flywheel.retrieval.registry import BASE
from flywheel.retrieval.titles import TitleCache
from flywheel.serving.engine import SearchEngine
from flywheel.serving.served import Live
from flywheel.settings.load import Config
from flywheel.settings.sections import Exploration
from flywheel.store import Store
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.training.models import Model
from tests.serving.house import WordEncoder
from tests.store.make import NOW, batch

QUERIES, K = 30, 5


@dataclass
class World:
    """Each query has one answer. For even queries the champion finds it; for odd ones only its rare word does."""

    store: Store
    config: Config
    planner: Planner = field(init=False)
    encoder: WordEncoder = field(default_factory=WordEncoder)
    day: int = 0

    def __post_init__(self) -> None:
        texts = {f"topic{i}-{j}": f"topic{i} topic{i} filler{j}" for i in range(QUERIES) for j in range(8)}
        texts |= {
            f"answer{i}": f"rare{i} exact{i} " + " ".join(f"other{i}{n}" for n in range(6))
            for i in range(1, QUERIES, 2)
        }
        texts |= {f"answer{i}": f"topic{i} exact{i} rare{i}" for i in range(0, QUERIES, 2)}
        documents = [Document(doc_id, "t", text, 1) for doc_id, text in texts.items()]
        self.store.documents.upsert(documents, NOW)
        self.index = Index("space", self.encoder.dimension)
        self.index.add(list(texts), self.encoder.encode_documents(list(texts.values())))
        self.store.models.add(Model(BASE, "base", "base", "space", NOW))
        self.store.decisions.decide(
            Decision("initial", "initial", BASE, "test", NOW, reasons=("first",), alias=CHAMPION)
        )
        self.planner = self.start()

    def start(self) -> Planner:
        """A planner as a process makes it at its start."""
        registry: Any = SimpleNamespace(encoder=lambda _: self.encoder)
        indexers: Any = SimpleNamespace(of=lambda _: SimpleNamespace(index=self.index, catch_up=lambda: None))
        words = Words(self.store.documents, self.config.exploration.lexical_documents)
        return Planner(self.config, self.store, registry, indexers, words)

    def text(self, number: int) -> str:
        return f"topic{number} exact{number} rare{number}"

    def serve(self, pages: int = 300) -> tuple[int, int]:
        """People search and click; returns how many explored slots they saw and how many slots in all."""
        engine = SearchEngine(
            TitleCache(self.store.documents.titles),
            now_ms=lambda: NOW,
            seconds=lambda: 0.0,
            cache_queries=1_000,
            live=Live(BASE, self.encoder, self.index, explorer=self.planner.explorer),
        )
        rng, queries, events, explored = np.random.default_rng(self.day), [], [], 0
        for page in range(pages):
            number, name = page % QUERIES, f"{self.day}-{page}"
            shown = engine.search(self.text(number), K)
            hits = tuple(hit.doc_id for hit in shown.hits)
            explored += len(shown.explored)
            stamp, who = NOW + self.day * 86_400_000 + page * 1_000, f"c{page % 97}"
            extra = {"propensities": shown.propensities, "explored": shown.explored}
            queries.append(Query(name, self.text(number), stamp, client_key=who, hit_ids=hits, **extra))
            clicked = People("pbm", SILENT).react(np.array([doc == f"answer{number}" for doc in hits]), rng).clicked
            events += [
                Event(f"{name}-{at}", Kind.CLICK, "click", stamp, name, hits[at], int(at) + 1, client_key=who)
                for at in np.flatnonzero(clicked)
            ]
        sent = batch(queries=queries, events=events, start=self.day * 10_000)
        self.store.feedback.ingest(sent, "test", NOW + self.day * 86_400_000)
        self.day += 1
        return explored, pages * K


@pytest.fixture
def world(tmp_path: Path) -> Any:
    settings = Exploration(share=0.3, max_ctr_cost=0.05)
    config = Config(exploration=settings).model_copy(
        update={"serving": Config().serving.model_copy(update={"default_k": K})}
    )
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=1) as store:
        yield World(store, config)


def test_answers_that_the_champion_misses_are_found_within_the_share(world: World) -> None:
    """After a few days of pages nearly every missing answer is confirmed, and the slots taken stay within the share."""
    taken = total = 0
    for _ in range(4):
        world.planner.replan(world.store.feedback.latest_ms(), NOW)
        explored, slots = world.serve()
        taken, total = taken + explored, total + slots
    world.planner.replan(world.store.feedback.latest_ms(), NOW)
    found = world.store.sql.query("SELECT query, doc_id, source FROM exploration WHERE state = 'confirmed'").to_pylist()
    right = {row["doc_id"] for row in found if row["doc_id"] == f"answer{row['query'].split('rare')[1]}"}
    missed = {f"answer{number}" for number in range(1, QUERIES, 2)}
    assert len(missed & right) >= 0.8 * len(missed)
    assert 0 < taken <= 0.3 * total


def test_a_document_stays_from_plan_to_plan_until_it_is_settled(world: World) -> None:
    """The slots of one plan are in the next one too, or their documents have verdicts; of a few the place is needed."""
    for _ in range(3):
        world.planner.replan(world.store.feedback.latest_ms(), NOW)
        before = {(row.query_key, row.doc_id) for row in world.store.exploration.slots()}
        world.serve(120)
    world.planner.replan(world.store.feedback.latest_ms(), NOW)
    after = {(row.query_key, row.doc_id) for row in world.store.exploration.slots()}
    settled = "SELECT query_key, doc_id FROM exploration WHERE state IN ('confirmed', 'dropped', 'exhausted')"
    verdicts = {(row["query_key"], row["doc_id"]) for row in world.store.sql.query(settled).to_pylist()}
    assert len(before) > 10
    assert len(before - after - verdicts) <= 0.1 * len(before)
    assert not after & verdicts


def test_a_restart_serves_the_plan_that_was_in_force(world: World) -> None:
    """A new process puts the same documents into the same pages before it has planned anything itself."""
    world.serve()
    world.planner.replan(world.store.feedback.latest_ms(), NOW)
    again = world.start()
    hits = [f"topic1-{j}" for j in range(8)]
    pages = [f"page {number}" for number in range(20)]
    for number in range(QUERIES):
        hits = world.index.search(world.encoder.encode_queries([world.text(number)]), K)[0][0]
        placed = [planner.explorer.place(world.text(number), hits, page=pages[0]) for planner in (world.planner, again)]
        assert placed[0] == placed[1]
    assert again.explorer.place(
        world.text(1), world.index.search(world.encoder.encode_queries([world.text(1)]), K)[0][0], page="p"
    )


def test_what_is_deleted_after_the_plan_is_never_shown(world: World) -> None:
    """Documents leave the index before the next plan; pages go on without them."""
    world.serve()
    world.planner.replan(world.store.feedback.latest_ms(), NOW)
    planned = {row.doc_id for row in world.store.exploration.slots()}
    assert planned
    world.index.remove(list(planned))
    assert world.serve()[0] == 0
    world.planner.replan(world.store.feedback.latest_ms(), NOW)
    assert not planned & {row.doc_id for row in world.store.exploration.slots()}


def test_clicks_that_say_nothing_yet_are_explored(world: World) -> None:
    """Where everybody clicks by chance on lists that never change, documents change places; only that can tell more."""
    rng = np.random.default_rng(0)
    pages = [
        Query(
            str(i),
            world.text(i % QUERIES),
            NOW + i,
            client_key=f"c{i}",
            hit_ids=tuple(f"topic{i % QUERIES}-{j}" for j in range(K)),
        )
        for i in range(400)
    ]
    events = [
        Event(str(i), Kind.CLICK, "click", NOW + i, str(i), page.hit_ids[at], at + 1, client_key=f"c{i}")
        for i, page in enumerate(pages)
        for at in [int(rng.integers(K))]
    ]
    world.store.feedback.ingest(batch(queries=pages, events=events), "test", NOW)
    report = world.planner.replan(world.store.feedback.latest_ms(), NOW)
    assert report.slots > 0
    assert 0 < world.serve(40)[0] < 40 * K


@pytest.mark.parametrize("reason", ["nothing shown", "switched off"])
def test_nothing_is_explored_where_nothing_could_be_learned(world: World, reason: str) -> None:
    """No feedback, or `exploration.enabled = false`: the pages stay."""
    if reason == "switched off":
        world.serve()
        world.config = world.config.model_copy(update={"exploration": Exploration(enabled=False)})
        world.planner = world.start()
    report = world.planner.replan(world.store.feedback.latest_ms(), NOW)
    assert (report.slots, bool(report.note)) == (0, True)
    assert world.serve(40)[0] == 0


def test_a_step_plans_again_only_where_something_changed(world: World) -> None:
    """The second look at the same feedback writes nothing; the first one takes what the watermark has closed."""
    world.serve()
    world.serve()
    pause = world.planner.step(NOW)
    first = world.planner.status()
    assert (pause, first["slots"] > 0) == (30 * 60, True)
    world.store.exploration.replan([], NOW)
    world.planner.step(NOW + 1)
    assert world.store.exploration.slots() == []
    world.serve()
    world.planner.step(NOW + 2)
    assert world.store.exploration.slots()
