"""Evaluation ranks the whole corpus exactly, and its parts add up to the whole."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.gates.rankings import METRICS, differences, moved, rank, score, summary
from flywheel.stats.metrics import ndcg

EAST, NORTH, BETWEEN = (1.0, 0.0), (0.0, 1.0), (0.6, 0.8)
DOC_IDS, DOCUMENTS = ["east", "north", "between"], np.array([EAST, NORTH, BETWEEN], np.float32)
QUERIES = np.array([EAST, NORTH, EAST], np.float32)
JUDGEMENTS = [{"east": 1.0}, {"between": 1.0}, {"east": 0.0}]


def test_figures_are_those_of_the_definitions() -> None:
    """The first query finds its document first, the second second; the third has none and counts for nothing."""
    result = summary(score(QUERIES, DOCUMENTS, DOC_IDS, JUDGEMENTS, seen=["east"]))
    assert result["queries"] == {"all": 2, "seen": 1, "unseen": 1}
    assert result["mrr@10"] == {"all": 0.75, "seen": 1.0, "unseen": 0.5}
    assert result["recall@10"]["all"] == 1.0
    assert result["ndcg@10"]["unseen"] == pytest.approx(1 / np.log2(3))


def test_a_part_without_queries_has_no_figure() -> None:
    """No answer is None, never 0."""
    result = summary(score(QUERIES, DOCUMENTS, DOC_IDS, JUDGEMENTS, seen=[]))
    assert result["ndcg@10"]["seen"] is None
    assert result["ndcg@10"]["unseen"] == result["ndcg@10"]["all"]


def test_ranking_is_exact_and_ties_keep_the_order_of_the_corpus() -> None:
    """The partial sort gives what a full stable sort gives, over chunk borders and ties too."""
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (300, 3)).astype(np.float32)
    documents = rng.integers(-2, 3, (200, 3)).astype(np.float32)
    ids = [str(row) for row in range(200)]
    whole = rank(queries, documents, ids, depth=200)
    scores = queries @ documents.T
    assert [[int(doc) for doc in row] for row in whole] == np.argsort(-scores, axis=1, kind="stable").tolist()
    for row, best in enumerate(rank(queries, documents, ids, depth=10)):
        assert [scores[row, int(doc)] for doc in best] == [scores[row, int(doc)] for doc in whole[row][:10]]


def test_judged_only_takes_out_what_nobody_judged() -> None:
    """An unjudged document above the relevant one costs nothing then."""
    scored = score(QUERIES[1:2], DOCUMENTS, DOC_IDS, JUDGEMENTS[1:2], seen=[], judged_only=True)
    assert scored.ranked == (("between",),)
    assert summary(scored)["ndcg@10"]["all"] == 1.0


def test_the_queries_that_moved_most_come_first() -> None:
    """Where a model wins and loses is shown with both rankings, largest change first, unmoved ones left out."""
    judgements = [{"east": 1.0}, {"north": 1.0}, {"east": 1.0}]
    before = score(np.array([NORTH, NORTH, EAST]), DOCUMENTS, DOC_IDS, judgements, seen=[])
    after = score(np.array([EAST, BETWEEN, EAST]), DOCUMENTS, DOC_IDS, judgements, seen=[])
    changes = moved(after, before)
    assert [change["row"] for change in changes] == [0, 1]
    assert changes[0]["after"] > changes[0]["before"]
    assert changes[1]["after"] < changes[1]["before"]
    assert changes[0]["ranked_after"][0] == "east"
    assert changes[0]["after"] == ndcg(after.ranked, judgements, 10)[0]
    assert METRICS[0] == "ndcg@10"


def test_differences_are_paired_and_apart() -> None:
    """Seen and unseen queries have their own effect, counts add up, and one query has no interval but a reason."""
    judgements = [{"east": 1.0}, {"north": 1.0}, {"between": 1.0}]
    before = score(np.array([NORTH, NORTH, EAST]), DOCUMENTS, DOC_IDS, judgements, seen=["east"])
    after = score(np.array([EAST, BETWEEN, EAST]), DOCUMENTS, DOC_IDS, judgements, seen=["east"])
    found = differences(after, before)["ndcg@10"]
    change = after.scores["ndcg@10"] - before.scores["ndcg@10"]
    assert found["all"]["effect"] == pytest.approx(change.mean())
    assert found["unseen"]["effect"] == pytest.approx(change[1:].mean())
    assert found["all"]["low"] < found["all"]["effect"] < found["all"]["high"]
    assert [found["all"][name] for name in ("better", "worse", "equal")] == [1, 1, 1]
    assert "least" in found["seen"]["inconclusive"]
