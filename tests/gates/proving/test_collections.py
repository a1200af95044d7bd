"""Whole collections at the gate: a gain over all, no loss on any, and anchors that only guard."""

from __future__ import annotations

import dataclasses

import pytest

from flywheel.gates.decision import PromotionPolicy, Verdict
from flywheel.gates.judged import JudgedSet, policy_of
from flywheel.gates.proving.collections import Proof, RankedCollection, prove
from flywheel.settings.load import Config

POLICY = dataclasses.replace(policy_of(Config()), metrics=("ndcg@10",))
HIT, MISS = ["right", "wrong"], ["wrong", "right"]


def _collection(name: str, better: int, worse: int, same: int, kind: str = "golden") -> RankedCollection:
    """So many queries on which `new` is better than `old`, worse, and equal."""
    old = [MISS] * better + [HIT] * (worse + same)
    new = [HIT] * better + [MISS] * worse + [HIT] * same
    queries = tuple(f"{name} {number}" for number in range(len(old)))
    judged = JudgedSet(name, "", kind, queries, ({"right": 1.0},) * len(old))
    return RankedCollection(judged, {"old": old, "new": new, "third": [MISS] * len(old)})


def _prove(*collections: RankedCollection, policy: PromotionPolicy = POLICY) -> Proof:
    return prove(collections, "new", "old", policy=policy, alpha=0.05)


def test_a_gain_over_all_collections_passes() -> None:
    """Two collections, of which neither shows a gain alone, do so together."""
    one, other = _collection("one", 4, 1, 45), _collection("other", 4, 1, 45)
    assert _prove(one).decision.verdict is not Verdict.PROMOTE
    assert _prove(one, other).decision.verdict is Verdict.PROMOTE


def test_a_gain_does_not_pay_for_a_loss_elsewhere() -> None:
    """Forty queries gained on one collection, and eight lost of another: rejected, and the reason names it."""
    found = _prove(_collection("tuned", 40, 0, 60), _collection("other", 0, 8, 42))
    assert found.decision.verdict is Verdict.REJECT
    assert any("other" in reason and "loss beyond the margin" in reason for reason in found.decision.reasons)
    assert [one.lost for one in found.compared] == [(), ("ndcg@10",)]


def test_an_anchor_holds_back_and_never_brings_forward() -> None:
    """A gain on an anchor proves nothing; a loss there rejects."""
    still = _collection("judged", 0, 0, 100)
    assert _prove(still, _collection("a", 40, 0, 60, "anchor")).decision.verdict is Verdict.INCONCLUSIVE
    gained = _collection("judged", 40, 0, 60)
    assert _prove(gained).decision.verdict is Verdict.PROMOTE
    assert _prove(gained, _collection("a", 0, 20, 60, "anchor")).decision.verdict is Verdict.REJECT


def test_every_ranker_has_its_mean() -> None:
    """Rankers beside the two are only shown: MISS has its hit at rank 2, which is 1 / log2(3)."""
    (one,) = _prove(_collection("one", 0, 0, 60)).compared
    assert one.means["third"]["ndcg@10"] == pytest.approx(0.6309, abs=1e-4)
    assert one.means["new"] == one.means["old"] == {"ndcg@10": 1.0}


def test_documents_that_training_touched_do_not_hide_a_loss() -> None:
    """With `trained`, a loss on the other documents rejects though all queries together gained."""
    seen = JudgedSet("s", "", "golden", tuple(f"s{n}" for n in range(100)), ({"seen": 1.0},) * 100)
    unseen = JudgedSet("u", "", "golden", tuple(f"u{n}" for n in range(40)), ({"right": 1.0},) * 40)
    both = JudgedSet("all", "", "golden", seen.queries + unseen.queries, seen.judgements + unseen.judgements)
    old = [["x", "seen"]] * 100 + [HIT] * 40
    new = [["seen"]] * 100 + [HIT] * 25 + [MISS] * 15
    one = RankedCollection(both, {"old": old, "new": new})
    assert prove([one], "new", "old", policy=POLICY, alpha=0.05).decision.verdict is Verdict.PROMOTE
    found = prove([one], "new", "old", policy=POLICY, alpha=0.05, trained={"seen"})
    assert found.decision.verdict is Verdict.REJECT


def test_without_a_collection_to_judge_by_nothing_is_said() -> None:
    """Anchors alone prove nothing."""
    with pytest.raises(ValueError, match="no collection to judge by"):
        _prove(_collection("a", 1, 0, 60, "anchor"))
