"""How a run reads its clicks: what teaches, what is refused, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from flywheel.clicks import model as clicks
from flywheel.clicks.evidence import Collected, Evidence, PairFacts
from flywheel.clicks.pages import ClickLog, ShownPage
from flywheel.clicks.pairs import COUNTS, Rules
from flywheel.clicks.sessions import Chains
from flywheel.learning.reading import JudgedEvidence, Read, Seen, read
from tests import defaults
from tests.clicks.test_model import QUERIES, K, World, evidence

Clicks = Callable[[World, np.ndarray, np.random.Generator], np.ndarray]


def by_relevance(world: World, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """People who look at rank k with chance 1 / k and click nine in ten relevant documents, one in ten others."""
    looked = rng.random((len(query), K)) < 1 / np.arange(1, K + 1)
    return looked & (rng.random((len(query), K)) < np.where(world.relevant[query], 0.9, 0.1))


def by_degrees(world: World, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Documents attract more and less without a gap, more where the score is higher."""
    attraction = np.exp(np.random.default_rng(5).normal(0, 0.8, world.score.shape) + 8 * (world.score - 0.5))
    rate = np.minimum(0.9, 0.25 * attraction / np.arange(1, K + 1) ** 0.7)
    return rng.random((len(query), K)) < rate[query]


def at_random(world: World, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three clicks in ten, anywhere."""
    return rng.random((len(query), K)) < 0.3


def without_choosing(world: World, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """People go down from the top, click three in ten of whatever they look at, and stop."""
    hit, looking = np.zeros((len(query), K), bool), np.ones(len(query), bool)
    for place in range(K):
        hit[:, place] = looking & (rng.random(len(query)) < 0.3)
        looking &= rng.random(len(query)) < np.where(hit[:, place], 0.5, 0.9)
    return hit


def by_query(world: World, query: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some queries draw more clicks, on whatever they show."""
    return rng.random((len(query), K)) < rng.beta(0.5, 4, QUERIES)[query][:, None]


def taken(
    people: Clicks,
    sessions: int = 6_000,
    *,
    chains: Chains | None = None,
    near: float = 1.0,
    judged: JudgedEvidence | None = None,
    rules: Rules | None = None,
) -> Read:
    """What is read of so many sessions; the champion scores every chain `near`."""
    world, rng = World(), np.random.default_rng(0)
    query = rng.integers(0, QUERIES, sessions)
    hit = people(world, query, rng)
    found = evidence(world.documents, query, hit, np.zeros(hit.shape))
    pages = [
        ShownPage(
            f"query {q}", f"p{n}", n, [str(doc) for doc in world.documents[q]],
            {str(doc) for doc in world.documents[q][hit[n]]},
        )
        for n, q in enumerate(query)
    ]  # fmt: skip
    none = np.zeros(found.pairs, np.int64)
    facts = PairFacts(**dict.fromkeys(COUNTS, none), first_ms=none, last_ms=none, model_versions=((),) * found.pairs)  # type: ignore[arg-type]
    collected = Collected(found, facts, found.queries, 0)
    features = world.features(found)
    model = clicks.fit(found, features, defaults.options())
    seen = Seen(collected, ClickLog.of(pages), chains or Chains())
    shown = judged or JudgedEvidence(Evidence.nothing(), [])
    scores = features.score
    return read(seen, model, scores, lambda given: np.full(len(given), near), shown, rules or defaults.rules(), 1)


def test_two_kinds_of_documents_are_read_by_their_posterior() -> None:
    """Where people click relevant documents, positives are what is likely relevant, and few others."""
    found = taken(by_relevance)
    assert found.reading == "posterior"
    assert found.meaning.holds
    assert 100 < found.pairs.count("positive") < 800


def test_a_posterior_that_leaves_most_clicks_unread_gives_way() -> None:
    """Where hardly a pair is likely enough for a positive, all clicked pairs teach, though there are two kinds."""
    found = taken(by_relevance, rules=defaults.rules(posterior_threshold=1 - 1e-14))
    assert found.carried is not None
    assert found.carried < 0.25
    assert found.reading == "clicks"
    assert found.pairs.count("positive") == (found.pairs.clicks > 0).sum()


def test_documents_without_a_gap_are_read_weakly() -> None:
    """Where documents attract more and less, every clicked pair is a positive that weighs what its clicks weigh."""
    found = taken(by_degrees)
    assert found.reading == "clicks"
    labelled = zip(found.pairs.label, found.pairs.clicks, found.pairs.weight, strict=True)
    assert all((label == "positive") == (clicks > 0) for label, clicks, _ in labelled)
    assert found.pairs.weight[found.pairs.clicks >= 1].max() == 1.0
    assert "unverified" in found.reasons[1]


@pytest.mark.parametrize("people", [at_random, without_choosing, by_query])
@pytest.mark.parametrize("sessions", [600, 6_000])
def test_clicks_that_owe_nothing_to_documents_teach_nothing(people: Clicks, sessions: int) -> None:
    """Random clicks, people who stop without choosing and lively queries give no positive, and the reason is said."""
    found = taken(people, sessions)
    assert found.reading == "nothing"
    assert found.pairs.count("positive") == 0
    assert "clicks do not show yet" in found.reasons[0]


def test_a_click_for_the_sessions_other_query_is_half_a_click() -> None:
    """Only where clicks are read weakly, and never over a label that the query's own clicks gave."""
    chains = Chains(("query 0", "query 1"), ("999999", "888888"), np.array([1.0, 3.0]), np.ones(2), np.ones(2))
    found = taken(by_degrees, chains=chains)
    sessions = {
        (key, doc): weight
        for key, doc, weight, source in zip(
            found.pairs.query_key, found.pairs.doc_id, found.pairs.weight, found.pairs.source, strict=True
        )
        if source == "session"
    }
    assert sessions == {("query 0", "999999"): 0.5, ("query 1", "888888"): 0.5}
    assert list(found.pairs.query_key) == sorted(found.pairs.query_key)
    assert "session" not in taken(by_relevance, chains=chains).pairs.source
    assert "session" not in taken(by_degrees, chains=chains, near=-1.0).pairs.source, "the champion finds them far"


def test_a_promise_is_made_of_judged_queries_and_of_no_other_number() -> None:
    """With 300 judged queries that people searched a level is promised; without them it is unverified."""
    world, rng = World(7), np.random.default_rng(3)
    query = rng.integers(0, QUERIES, 6_000)
    hit = by_relevance(world, query, rng)
    shown = evidence(world.documents, query, hit, np.zeros(hit.shape))
    grades = [
        (f"query {q}", {str(doc): float(good) for doc, good in zip(docs, world.relevant[q], strict=True)})
        for q, docs in enumerate(world.documents)
    ]
    found = taken(by_relevance, judged=JudgedEvidence(shown, grades))
    assert found.verified.promise is not None
    assert 0.5 <= found.verified.promise.level <= 0.95
    assert 0 < found.promised <= found.pairs.count("positive")
    assert "promised right" in found.reasons[1]
