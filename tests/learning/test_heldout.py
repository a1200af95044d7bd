"""Held-out feedback as a guard: what it holds back, what it lets through, and that both models stand on equal terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flywheel.clicks.evidence import Collected, Counts, Evidence, Floats, PairFacts
from flywheel.clicks.pairs import COUNTS
from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.gates.scores import SHOWN, HeldOutScores
from flywheel.learning.heldout import HeldOutRules, even_features, held_out_scores, score
from flywheel.rehearsal.people import SILENT, Habit, People
from flywheel.settings.load import parse
from flywheel.stats.metrics import ndcg
from flywheel.store import Store
from flywheel.store.training.models import Model
from flywheel.store.training.runs import TrainingRun
from tests import defaults
from tests.clicks.test_model import evidence
from tests.store.make import NOW, batch, query
from trainer.data.dataset import held_out

HABITS: tuple[Habit, ...] = ("pbm", "cascade", "trust")
SERVED = ("challenger", "champion")
POLICY = defaults.policy(metrics=("ndcg@10",), min_queries=2, min_unseen=2)
READING = HeldOutRules(defaults.rules(), defaults.options(), frozenset(), {})
K, POOL = 10, 40


@dataclass(frozen=True)
class World:
    """Pages of the first ten of 40 documents by whoever served them, each model's scores of what was shown, and which
    of it is relevant; scores tell relevant documents by so much of their spread."""

    collected: Collected
    ours: Floats
    theirs: Floats
    truth: npt.NDArray[np.bool_]


def _world(seed: int, *, theirs: float, served: str = "champion", habit: Habit = "pbm", queries: int = 100) -> World:
    rng = np.random.default_rng(seed)
    relevant = rng.random((queries, POOL)) < 0.08
    skills = {"champion": 1.5, "challenger": theirs, "somebody": 1.5}
    scores = {name: skill * relevant + rng.normal(size=relevant.shape) + 9 for name, skill in skills.items()}
    shown = np.argsort(-scores[served], axis=1)[:, :K]
    query = rng.integers(0, queries, 20 * queries)
    did = People(habit, SILENT).react(np.take_along_axis(relevant, shown, axis=1)[query], rng)
    found = evidence(shown + POOL * np.arange(queries)[:, None], query, did.clicked, did.dwell_ms)
    place = np.array([int(name) for name in found.documents])[found.pair_document]
    champion, challenger = (scores[name].ravel()[place] for name in ("champion", "challenger"))
    return World(_collected(found), champion, challenger, relevant.ravel()[place])


def _collected(found: Evidence) -> Collected:
    none = np.zeros(found.pairs, dtype=np.int64)
    counts: dict[str, Counts] = dict.fromkeys((*COUNTS, "first_ms", "last_ms"), none)
    facts = PairFacts(**counts, model_versions=((),) * found.pairs)
    return Collected(found, facts, found.queries, until_ms=0)


def _gate(feedback: HeldOutScores | None, policy: PromotionPolicy = POLICY, golden: int = 0) -> GateDecision:
    """The gate on this feedback and a golden set, of that many queries, on which the challenger gains."""
    champion = np.full(golden, 0.5)
    gain = np.random.default_rng(0).normal(0.2, 0.1, golden)
    pair = {"ndcg@10": (champion, champion + gain)}
    return decide_offline(
        OfflineEvidence(pair, np.arange(golden) % 2 == 0, np.arange(golden), feedback=feedback), policy, 0.05
    )


def _scored(world: World) -> HeldOutScores:
    return score(world.collected, world.ours, world.theirs, READING)


def _effect(feedback: HeldOutScores) -> float:
    return float(np.nanmean(feedback.challenger - feedback.champion))


def _true_effect(world: World) -> float:
    """The same with the judgements that only the simulation knows."""
    found = world.collected.evidence
    judged: dict[int, dict[str, float]] = {query: {} for query in range(len(found.queries))}
    for row in np.flatnonzero(world.truth):
        judged[int(found.pair_query[row])][found.documents[found.pair_document[row]]] = 1.0
    ranked = (_order(found, scores) for scores in (world.ours, world.theirs))
    champion, challenger = (ndcg(order, list(judged.values()), K) for order in ranked)
    return float(np.nanmean(challenger - champion))


def _order(found: Evidence, scores: Floats) -> list[list[str]]:
    ranked: list[list[str]] = [[] for _ in found.queries]
    for row in np.argsort(-scores, kind="stable"):
        ranked[found.pair_query[row]].append(found.documents[found.pair_document[row]])
    return ranked


def test_an_equal_challenger_is_held_back_at_most_at_the_stated_rate() -> None:
    """A model as good as the champion, which orders pages by its own lights, is rejected in no more than 5 % of trials:
    on pages that somebody else ranked, where nothing favours either, under three kinds of people."""
    worlds = [_world(seed, theirs=1.5, served="somebody", habit=habit) for seed in range(12) for habit in HABITS]
    found = [_gate(_scored(world)).verdict for world in worlds]
    assert found.count(Verdict.REJECT) <= 0.05 * len(found)


@pytest.mark.parametrize("habit", HABITS)
def test_effects_are_those_of_true_judgements(habit: Habit) -> None:
    """However people read a page, clicks give the effect that true relevance gives, shrunk by at most a half."""
    for skill in (0.0, 1.5):
        worlds = [_world(seed, theirs=skill, habit=habit) for seed in range(4)]
        ratio = np.mean([_effect(_scored(world)) for world in worlds]) / np.mean([_true_effect(w) for w in worlds])
        assert 0.5 < ratio < 1.1


def test_a_challenger_that_orders_what_was_shown_clearly_worse_is_rejected() -> None:
    """A model that knows nothing of relevance is rejected for that, though the golden set speaks for it."""
    decisions = [_gate(_scored(_world(seed, theirs=0.0)), golden=60) for seed in range(3)]
    assert all(decision.verdict is Verdict.REJECT for decision in decisions)
    assert all("held-out feedback, among what was shown" in decision.reasons[0] for decision in decisions)


def test_bringing_in_new_documents_costs_nothing() -> None:
    """A challenger that leaves the order of what was shown and puts other documents above it loses exactly nothing."""
    world = _world(0, theirs=1.5)
    found = score(world.collected, world.ours, world.ours, READING)
    assert _effect(found) == 0.0
    assert _gate(found, golden=60).verdict is Verdict.PROMOTE


def test_neither_model_has_an_advantage() -> None:
    """Swapping the two models swaps their scores and changes nothing else; the order of the pages is no feature."""
    world = _world(1, theirs=0.7)
    one, other = _scored(world), score(world.collected, world.theirs, world.ours, READING)
    assert np.allclose(one.champion, other.challenger, equal_nan=True)
    assert np.allclose(one.challenger, other.champion, equal_nan=True)
    rank = even_features(world.collected.evidence, world.ours, world.theirs).rank
    assert rank is not None
    assert rank.std() == 0


def test_whose_pages_they_are_matters() -> None:
    """Why only the champion's pages are read: on a challenger's own pages an equal champion would win, by selection."""
    own, others = ([_effect(_scored(_world(seed, theirs=1.5, served=s))) for seed in range(3)] for s in SERVED)
    assert np.mean(own) < -0.04
    assert np.mean(others) > 0.04


def test_feedback_alone_promotes_nothing() -> None:
    """A huge gain on held-out feedback and no golden set is inconclusive, spends nothing, and its figures are kept."""
    decision = _gate(_flat(80, 0.3))
    assert (decision.verdict, decision.spent) == (Verdict.INCONCLUSIVE, 0.0)
    assert decision.evidence["parts"]["feedback"][SHOWN]["effect"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("queries", "effect", "verdict"),
    [(80, 0.0, Verdict.PROMOTE), (80, -0.2, Verdict.REJECT), (30, 0.0, Verdict.INCONCLUSIVE)],
)
def test_a_home_without_golden_sets_screens_by_feedback(queries: int, effect: float, verdict: Verdict) -> None:
    """Where live stages follow, enough held-out queries without a loss pass it on; a loss does not, nor do few."""
    decision = _gate(_flat(queries, effect), replace(POLICY, screens=True))
    assert (decision.verdict, decision.spent) == (verdict, 0.0)
    if queries < POLICY.min_feedback:
        assert any("30 queries, 50 are the least" in reason for reason in decision.reasons)


def test_one_persons_queries_are_one_witness() -> None:
    """Sixty queries that one person asked are one group: no verdict, however bad they look."""
    alone = replace(_flat(60, -0.3), groups=np.zeros(60, dtype=np.int64))
    assert _gate(alone, golden=60).verdict is Verdict.PROMOTE


def _flat(queries: int, effect: float) -> HeldOutScores:
    champion = np.full(queries, 0.6)
    challenger = champion + effect + np.random.default_rng(0).normal(0, 0.05, queries)
    return HeldOutScores(champion, challenger, np.ones(queries, dtype=bool), np.arange(queries))


def test_what_the_gate_gathers(tmp_path: Path) -> None:
    """Only held-out, not golden queries on the champion's or the product's own pages are scored; documents that other
    queries trained count as seen; a query of one person's is that person's."""
    held = [f"query {n}" for n in range(400) if held_out(f"query {n}", 0.1, kind="query")]
    other = next(f"query {n}" for n in range(400) if f"query {n}" not in held)
    config = parse({"signals": {"watermark_minutes": 0}})
    asked: list[Evidence] = []

    def scorer(found: Evidence) -> Floats:
        asked.append(found)
        return np.linspace(2, 1, found.pairs)

    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5) as store:
        for version in ("v1", "v2"):
            store.models.add(Model(version, "query_tower", f"/{version}", "space", NOW))
        store.golden.add("golden", "set", {"g": held[1]}, [("g", "d1", 1.0)], NOW)
        pages = [(held[0], "v1", "a"), (held[2], None, "b"), (held[3], "theirs", "a"), (held[4], "v2", "a")]
        pages += [(held[1], "v1", "a"), (other, "v1", "a"), (held[0], "v1", "a"), (held[0], "v1", "b")]
        store.feedback.ingest(
            batch(
                queries=[
                    query(f"p{n}", text=text, model_version=version, client_key=person)
                    for n, (text, version, person) in enumerate(pages)
                ]
            ),
            "sim",
            NOW,
        )
        run = TrainingRun("run-1", "manual", "query_tower", "gate", NOW, parent="v1", version="v3", until_ms=NOW)
        found = held_out_scores(store, config, run, scorer, scorer)
        assert store.heldout.askers([held[0], held[2]], NOW) == {held[0]: "a", held[2]: "b"}
        nothing = held_out_scores(store, parse({"trainer": {"dev_share": 0.0}}), run, scorer, scorer)
    assert set(asked[0].queries) == {held[0], held[2], held[3]}
    assert found.groups[list(asked[0].queries).index(held[0])] == found.groups[list(asked[0].queries).index(held[3])]
    assert "dev_share" in nothing.note
