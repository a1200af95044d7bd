"""One score per query, as trec_eval gives it."""

import numpy as np
import pytest
import pytrec_eval

from flywheel.stats.metrics import judged_only, mrr, ndcg, overlap, parse_metric, rbo, recall


def _random_runs(queries: int = 60) -> tuple[list[list[str]], list[dict[str, int]]]:
    rng = np.random.default_rng(5)
    documents = np.array([f"d{n}" for n in range(80)])
    ranked = [list(rng.permutation(documents)[: rng.integers(1, 60)]) for _ in range(queries)]
    judged = [
        {
            str(doc): int(grade)
            for doc, grade in zip(rng.permutation(documents)[:12], rng.integers(-1, 4, 12), strict=True)
        }
        for _ in range(queries)
    ]
    return ranked, judged


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_equals_trec_eval(k: int) -> None:
    """Recall, nDCG and MRR equal pytrec_eval's on random graded runs with judged, unjudged and negative documents."""
    ranked, judged = _random_runs()
    run = {str(q): {doc: float(-rank) for rank, doc in enumerate(hits)} for q, hits in enumerate(ranked)}
    cut = {q: dict(list(hits.items())[:k]) for q, hits in run.items()}
    qrels = {str(q): grades for q, grades in enumerate(judged)}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}", f"recall.{k}"}).evaluate(run)
    first = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    for row in range(len(ranked)):
        assert ndcg(ranked, judged, k)[row] == pytest.approx(theirs[str(row)][f"ndcg_cut_{k}"], abs=1e-9)
        assert recall(ranked, judged, k)[row] == pytest.approx(theirs[str(row)][f"recall_{k}"], abs=1e-9)
        assert mrr(ranked, judged, k)[row] == pytest.approx(first[str(row)]["recip_rank"], abs=1e-9)


def test_no_relevant_document_is_no_score() -> None:
    """A query without a relevant document has no score, rather than a zero that drags the mean down."""
    ranked, judged = [["a"], ["a"], ["a"]], [{}, {"a": 0.0}, {"b": 1.0}]
    for metric in (recall, mrr, ndcg):
        assert np.isnan(metric(ranked, judged, 10)).tolist() == [True, True, False]


def test_repeated_document_counts_once() -> None:
    """A ranking that repeats a relevant document gains nothing from the repetition."""
    assert recall([["a", "a"]], [{"a": 1.0, "b": 1.0}], 2)[0] == 0.5
    assert ndcg([["a", "a"]], [{"a": 1.0}], 10)[0] == 1.0


def test_judged_only_condenses() -> None:
    """The judged-only reading drops unjudged documents and keeps the order of the rest."""
    assert judged_only([["x", "b", "y", "a"]], [{"a": 1.0, "b": 0.0}]) == [["b", "a"]]


def test_parse_metric() -> None:
    """A metric's name finds its function, and a wrong one is refused with those that are known."""
    assert parse_metric("mrr@2")([["x", "a"]], [{"a": 1.0}])[0] == 0.5
    for wrong in ("ndcg", "ndcg@0", "map@10", "recall@-1", "recall@ten"):
        with pytest.raises(ValueError, match="recall@10"):
            parse_metric(wrong)


def test_rank_biased_overlap_is_its_definition() -> None:
    """It equals the sum over depths, is 1 for equal lists, 0 for lists with nothing in common, and weighs the top."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        one, other = ([f"d{d}" for d in rng.permutation(15)[:10]] for _ in range(2))
        agreement = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, 11)]
        whole = sum(0.1 / 0.9 * share * 0.9**d for d, share in enumerate(agreement, 1)) + agreement[-1] * 0.9**10
        assert rbo(one, other) == pytest.approx(whole)
        assert rbo(one, one) == pytest.approx(1.0)
    assert rbo(["a", "b"], ["c", "d"]) == 0
    assert rbo(["a", "b", "c"], ["a", "c", "b"]) > rbo(["a", "b", "c"], ["b", "a", "c"])


def test_overlap_counts_common_documents_of_the_top() -> None:
    """Order does not matter, what lies beyond k neither, and two empty pages agree."""
    assert overlap(["a", "b", "x"], ["b", "a", "y"], 2) == 1
    assert overlap(["a", "b", "c", "d"], ["a", "e"], 4) == 0.25
    assert overlap([], [], 10) == 1
