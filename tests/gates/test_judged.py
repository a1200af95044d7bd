"""The offline gate's evidence: what it scores, and which queries count as one."""

from collections.abc import Sequence

from flywheel.gates.judged import JudgedSet, judge
from tests import defaults

POLICY = defaults.policy(metrics=("ndcg@10",), min_queries=2, min_unseen=2)


def _set(name: str, texts: tuple[str, ...], kind: str = "golden") -> JudgedSet:
    return JudgedSet(name, "1", kind, texts, tuple({text.strip().lower(): 1.0} for text in texts))


def _right(texts: Sequence[str]) -> list[list[str]]:
    return [[text.strip().lower()] for text in texts]


def _wrong(texts: Sequence[str]) -> list[list[str]]:
    return [["nothing"] for _ in texts]


def test_a_query_in_two_sets_counts_once() -> None:
    """The same query in two golden sets, however it is written, is one group: no set can double its own evidence."""
    sets = [_set("first", ("one", "two", "three")), _set("second", ("One ", "two?", "four"))]
    sums = judge(_wrong, _right, sets, trained=(), policy=POLICY, alpha=0.05).evidence["parts"]["all"]["ndcg@10"]
    assert (sums["sums"]["groups"], sums["sums"]["queries"]) == (4, 6)
    assert sums["effect"] == 1.0


def test_anchors_are_held_against_the_base_too() -> None:
    """Every anchor set is compared with the champion, and with the base model where one is given."""
    sets = [_set("golden", ("one", "two", "three")), _set("old", ("four", "five"), "anchor")]
    decision = judge(_wrong, _right, sets, trained=(), policy=POLICY, alpha=0.05, base=_right)
    parts = decision.evidence["parts"]
    assert parts["anchor old"]["ndcg@10"]["effect"] == 1.0
    assert parts["anchor old since base"]["ndcg@10"]["effect"] == 0.0
