"""Documents that people click wherever they see them, and documents that only seem so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flywheel.clicks import model as clicks
from flywheel.rehearsal.people import SILENT, People
from tests.clicks.test_model import QUERIES, World, evidence, learned


def test_one_document_clicked_everywhere_is_not_believed() -> None:
    """A document that one in ten clicks wherever it stands, over 60 queries, becomes no positive where irrelevant."""
    world, rng = World(), np.random.default_rng(6)
    world.score[:60, 4] -= 0.08 * world.relevant[:60, 4]
    world.documents[:60, 4], world.relevant[:60, 4] = 10_000, False
    query = rng.integers(0, QUERIES, 3000)
    hit = People("pbm", SILENT).react(world.relevant[query], rng).clicked
    cheat = rng.random(3000) < 0.1
    hit[cheat] = world.documents[query[cheat]] == 10_000
    found = evidence(world.documents, query, hit, np.zeros(hit.shape))
    model, precision, _ = learned(world, found)
    bait = np.array([found.documents[d] == "10000" for d in found.pair_document])
    assert (model.posterior[bait] > 0.5).mean() <= 0.05
    assert model.pull[bait].min() > 0.05
    assert precision >= 0.9


def test_a_bait_at_a_low_rank_is_known_by_four_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """One session in twenty that clicks a document at rank 8 of four busy queries makes no positive of it."""
    world, rng = World(queries=50, documents=400), np.random.default_rng(8)
    world.documents[:4, 7], world.relevant[:4, 7] = 10_000, False
    query = rng.integers(0, 50, 24_000)
    hit = People("pbm", SILENT).react(world.relevant[query], rng).clicked
    hit |= (rng.random(24_000) < 0.05)[:, None] & (world.documents[query] == 10_000)
    found = evidence(world.documents, query, hit, np.zeros(hit.shape))
    bait = np.array([found.documents[d] == "10000" for d in found.pair_document])
    assert not (learned(world, found)[0].posterior[bait] > 0.5).any()
    monkeypatch.setattr(clicks, "PULL_PRIOR", np.array([0.0] + [-100.0] * (len(clicks.PULL_PRIOR) - 1)))
    assert (learned(world, found)[0].posterior[bait] > 0.5).all()


def test_a_document_that_colluders_besiege_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where most who search eight queries click one document at whatever rank, it is a positive of none of them."""
    world, rng = World(), np.random.default_rng(10)
    row, place = np.arange(8), np.array([0, 1, 2, 3, 5, 6, 7, 8])
    world.score[row, place] -= 0.08 * world.relevant[row, place]
    world.documents[row, place], world.relevant[row, place] = 10_000, False
    query = np.concatenate([rng.integers(0, QUERIES, 3000), np.repeat(row, 30)])
    hit = People("pbm", SILENT).react(world.relevant[query], rng).clicked
    besieging = (np.arange(len(query)) >= 3000) & (rng.random(len(query)) < 0.9)
    hit[besieging] = world.documents[query[besieging]] == 10_000
    found = evidence(world.documents, query, hit, np.zeros(hit.shape))
    bait = np.array([found.documents[d] == "10000" for d in found.pair_document])
    model, precision, _ = learned(world, found)
    assert not (model.posterior[bait] > 0.5).any()
    assert model.pull[bait].min() > 0.2
    assert precision >= 0.9
    monkeypatch.setattr(
        clicks,
        "PULL_PRIOR",
        np.where(np.arange(len(clicks.PULL_PRIOR)) == len(clicks.PULLS), -100.0, clicks.PULL_PRIOR),
    )
    assert (learned(world, found)[0].posterior[bait] > 0.5).mean() > 0.5


def test_what_idle_people_click_under_one_query_is_not_believed() -> None:
    """One query alone cannot tell colluders at a low rank from relevance; that its clickers click nothing else can."""
    world, rng = World(queries=50, documents=400), np.random.default_rng(11)
    world.documents[0, 6], world.relevant[0, 6] = 10_000, False
    query = rng.integers(0, 50, 15_000)
    hit = People("pbm", SILENT).react(world.relevant[query], rng).clicked
    hit |= (rng.random(15_000) < 0.09)[:, None] & (world.documents[query] == 10_000)
    found = evidence(world.documents, query, hit, np.zeros(hit.shape))
    (bait,) = np.flatnonzero([found.documents[d] == "10000" for d in found.pair_document])
    model, precision, recall = learned(world, found)
    assert model.posterior[bait] > 0.5
    idle = np.where(np.array(found.documents) == "10000", 8.0, 0.0)
    told, after, recalled = learned(world, dataclasses.replace(found, idle=idle))
    assert told.posterior[bait] < 0.5
    assert after > precision
    assert recalled == pytest.approx(recall, abs=0.01)


def test_a_document_that_answers_several_queries_is_no_bait() -> None:
    """Relevant to each of five queries where the champion has it on top, it stays a positive of all."""
    world = World()
    world.documents[:5, 0], world.relevant[:5, 0] = 10_000, True
    found = world.clicked("pbm", 6000, 0)
    model, _, _ = learned(world, found)
    hub = np.array([found.documents[d] == "10000" for d in found.pair_document])
    assert model.posterior[hub].min() > 0.5
    assert model.pull[hub].max() < 0.01


def test_a_document_that_answers_queries_where_it_hardly_belongs_is_no_bait() -> None:
    """Thought unlikely and then clicked by nearly all who see it on top of five queries, it is a positive of each."""
    world, rng = World(), np.random.default_rng(9)
    world.documents[:5, 0], world.relevant[:5, 0] = 10_000, True
    world.documents[5:8, 9], world.relevant[5:8, 9] = 10_000, False
    world.score[:5, 0] = world.score[:5, 9] - 0.01  # the champion would have shown it last
    query = np.concatenate([rng.integers(0, QUERIES, 4000), np.repeat(np.arange(8), 15)])
    did = People("trust", SILENT).react(world.relevant[query], rng)
    found = evidence(world.documents, query, did.clicked, did.dwell_ms)
    model, _, _ = learned(world, found)
    hub = np.array([found.documents[d] == "10000" for d in found.pair_document]) & world.truth(found)
    assert hub.sum() == 5
    assert model.prior[hub].max() < 0.15
    assert model.posterior[hub].min() > 0.5
    assert model.pull[hub].max() < 0.01


def test_a_document_that_answers_many_queries_is_learned_for_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relevant to 50 queries where the champion thinks little of it, it is no bait: more is learned than without that
    thought, and no more of the 20 that it does not answer."""
    world, rng = World(), np.random.default_rng(12)
    row, place = np.arange(70), rng.integers(2, 9, 70)
    world.documents[row, place], world.relevant[row, place] = 10_000, row < 50
    world.score[row, place] = world.score[row].min(axis=1)
    found = world.clicked("pbm", 6_000, 0)
    hub = np.array([found.documents[d] == "10000" for d in found.pair_document])
    truth = world.truth(found)

    def right_and_wrong() -> tuple[float, float]:
        likely = learned(world, found)[0].posterior > 0.5
        return float(likely[hub & truth].mean()), float(likely[hub & ~truth].mean())

    right, wrong = right_and_wrong()
    monkeypatch.setattr(
        clicks, "PULL_PRIOR", np.where(np.arange(len(clicks.PULL_PRIOR)) > len(clicks.PULLS), -100.0, clicks.PULL_PRIOR)
    )
    before, _ = right_and_wrong()
    assert right > before + 0.3
    assert right > 0.6
    assert wrong <= 0.1
