"""The offline gate: what it promotes, what it holds back, and that its sums reproduce it."""

import json

import numpy as np
import pytest

from flywheel.gates.decision import GateDecision, Verdict, too_few
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.gates.scores import lost
from flywheel.stats.estimate import Estimate
from flywheel.stats.paired import PairedSums
from flywheel.stats.power import judged_queries, spread_limit
from tests import defaults

POLICY = defaults.policy(metrics=("ndcg@10",))


def _pair(rng: np.random.Generator, n: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Two models' nDCG: four in ten queries move, with the spread of real fine-tuning (0.16 a query)."""
    champion = rng.beta(1.2, 0.7, n)
    return champion, champion + np.where(rng.random(n) < 0.4, rng.normal(gain / 0.4, 0.25, n), 0.0)


def _evidence(seed: int, *, seen: float, unseen: float, anchor: float | None = None, n: int = 162) -> OfflineEvidence:
    rng = np.random.default_rng(seed)
    is_seen = np.arange(n) >= 60
    parts = _pair(rng, 60, unseen), _pair(rng, n - 60, seen)
    pair = np.concatenate([parts[0][0], parts[1][0]]), np.concatenate([parts[0][1], parts[1][1]])
    anchors = {} if anchor is None else {"cranfield": {"ndcg@10": _pair(rng, 200, anchor)}}
    return OfflineEvidence({"ndcg@10": pair}, is_seen, np.arange(n), anchors)


def _verdicts(*, seen: float, unseen: float, alpha: float = 0.01, runs: int = 100) -> dict[Verdict, float]:
    found = [decide_offline(_evidence(seed, seen=seen, unseen=unseen), POLICY, alpha).verdict for seed in range(runs)]
    return {verdict: found.count(verdict) / runs for verdict in Verdict}


def test_true_gain_is_promoted() -> None:
    """A challenger 6 points better on seen and no worse on unseen documents is promoted in most trials."""
    assert _verdicts(seen=0.08, unseen=0.01)[Verdict.PROMOTE] > 0.7


def test_no_gain_is_not_promoted() -> None:
    """A challenger that is no better is promoted at most at the asked rate."""
    assert _verdicts(alpha=0.05, runs=300, seen=0.0, unseen=0.0)[Verdict.PROMOTE] <= 0.05 + 2 * 0.0126


def test_loss_on_unseen_is_rejected() -> None:
    """Ten points better on seen, six worse on unseen documents: held back for that reason."""
    assert _verdicts(seen=0.10, unseen=-0.06)[Verdict.PROMOTE] < 0.05
    decision = decide_offline(_evidence(0, seen=0.10, unseen=-0.08), POLICY, 0.05)
    assert decision.verdict is Verdict.REJECT
    assert "unseen" in decision.reasons[0]


def test_loss_on_an_anchor_is_rejected() -> None:
    """A gain at home that costs six points on an anchor set is held back, and the anchor is named."""
    decision = decide_offline(_evidence(1, seen=0.10, unseen=0.02, anchor=-0.06), POLICY, 0.05)
    assert decision.verdict is Verdict.REJECT
    assert "anchor cranfield" in decision.reasons[0]


def test_harmless_challenger_is_rarely_blocked() -> None:
    """A margin inside the noise blocks a challenger that changes nothing on unseen documents in one of six cases."""
    blocked = np.mean(
        [
            decide_offline(_evidence(seed, seen=0.15, unseen=0.0), POLICY, 0.05).verdict is Verdict.REJECT
            for seed in range(200)
        ]
    )
    assert blocked < 0.22


def test_worse_challenger_is_rejected() -> None:
    """Ten points worse everywhere is a rejection, not an open question."""
    assert _verdicts(seen=-0.10, unseen=-0.10, runs=40)[Verdict.REJECT] == 1.0


@pytest.mark.parametrize(("n", "seen", "words"), [(14, 0, "14 judged queries"), (160, 150, "10 judged queries whose")])
def test_too_few_queries_spend_nothing(n: int, seen: int, words: str) -> None:
    """Too few judged queries, over all or unseen: inconclusive, with the number, and no alpha spent."""
    pair = _pair(np.random.default_rng(0), n, 0.5)
    decision = decide_offline(OfflineEvidence({"ndcg@10": pair}, np.arange(n) < seen, np.arange(n)), POLICY, 0.05)
    assert (decision.verdict, decision.spent) == (Verdict.INCONCLUSIVE, 0.0)
    assert words in decision.reasons[0]


def test_alpha_is_shared_among_metrics() -> None:
    """One gain is enough, but of several metrics each has to pass Holm's share of alpha."""
    evidence = _evidence(3, seen=0.05, unseen=0.0)
    still = evidence.metrics["ndcg@10"][0]
    both = OfflineEvidence({**evidence.metrics, "recall@10": (still, still)}, evidence.seen, evidence.groups)
    found = PairedSums.of(*evidence.metrics["ndcg@10"]).compare()
    assert isinstance(found, Estimate)
    alpha = found.p_gain() * 1.5
    assert decide_offline(evidence, POLICY, alpha).verdict is Verdict.PROMOTE
    two = defaults.policy(metrics=("ndcg@10", "recall@10"))
    assert decide_offline(both, two, alpha).verdict is Verdict.INCONCLUSIVE
    assert decide_offline(both, two, alpha * 2).verdict is Verdict.PROMOTE


def test_small_gain_waits_for_min_effect() -> None:
    """A significant gain below `min_effect` is not promoted, and the reason says so."""
    decision = decide_offline(
        _evidence(2, seen=0.08, unseen=0.03), defaults.policy(metrics=("ndcg@10",), min_effect=0.3), 0.05
    )
    assert decision.verdict is not Verdict.PROMOTE
    assert "min_effect" in decision.reasons[0]


def test_sums_reproduce_the_decision() -> None:
    """The recorded sums survive JSON and give back effect, error and p-value."""
    decision: GateDecision = decide_offline(_evidence(4, seen=0.05, unseen=0.0, anchor=0.0), POLICY, 0.05)
    record = json.loads(json.dumps(decision.as_dict(), allow_nan=False))
    for part in ("all", "seen", "unseen", "anchor cranfield"):
        facts = record["evidence"]["parts"][part]["ndcg@10"]
        again = PairedSums(**facts["sums"]).compare()
        assert isinstance(again, Estimate)
        assert (again.effect, again.p_gain()) == pytest.approx((facts["effect"], facts["p_gain"]))


def test_same_evidence_same_decision() -> None:
    """The gate has no hidden state: deciding twice gives the same record, bootstrap included."""
    evidence = _evidence(5, seen=0.05, unseen=0.0)
    assert decide_offline(evidence, POLICY, 0.02) == decide_offline(evidence, POLICY, 0.02)


def test_lost_becomes_the_margin_as_queries_grow() -> None:
    """With no noise left the rule is the margin itself; in the noise it asks for more than one standard error."""
    assert lost(Estimate(-0.011, 0.0001), 0.01, 0.16)
    assert not lost(Estimate(-0.009, 0.0001), 0.01, 0.16)
    assert not lost(Estimate(-0.015, 0.02), 0.01, 0.16)
    assert lost(Estimate(-0.021, 0.02), 0.01, 0.16)


def test_missing_primary_metric_is_an_error() -> None:
    """A policy that asks for a metric nobody measured fails loudly."""
    with pytest.raises(ValueError, match="mrr@10"):
        decide_offline(_evidence(0, seen=0.0, unseen=0.0), defaults.policy(metrics=("mrr@10",)), 0.05)


def test_gain_that_the_bootstrap_doubts_is_none() -> None:
    """Many small gains beside three large losses pass the t-test and not the bootstrap: inconclusive, saying so."""
    change = np.full(100, 0.06)
    change[:3] = -0.8
    evidence = OfflineEvidence({"ndcg@10": (np.zeros(100), change)}, np.arange(100) % 2 == 0, np.arange(100))
    decision = decide_offline(evidence, POLICY, 0.02)
    assert decision.evidence["parts"]["all"]["ndcg@10"]["p_gain"] < 0.02
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "not to the bootstrap" in decision.reasons[0]


def _small(n: int, gain: float, moving: int | None = None) -> OfflineEvidence:
    champion, challenger = _pair(np.random.default_rng(7), n, gain)
    moved = np.arange(n) < (n if moving is None else moving)
    challenger = np.where(moved, challenger, champion)
    return OfflineEvidence({"ndcg@10": (champion, challenger)}, np.arange(n) % 2 == 0, np.arange(n))


def test_few_queries_may_decide_by_the_exact_test() -> None:
    """On 23 judged queries a large gain is promoted, by the sign-flip test, and alpha is spent."""
    decision = decide_offline(_small(23, 0.3), POLICY, 0.05)
    assert (decision.verdict, decision.spent) == (Verdict.PROMOTE, 0.05)
    assert "sign-flip" in decision.reasons[0]
    assert decision.evidence["parts"]["all"]["ndcg@10"]["test"] == "sign-flip"


def test_few_queries_without_a_gain_say_how_many_are_needed() -> None:
    """On 23 judged queries without a clear gain the verdict has a number, by the upper limit of the spread."""
    decision = decide_offline(_small(23, 0.0), POLICY, 0.05)
    assert decision.verdict is Verdict.INCONCLUSIVE
    plan, measured = decision.evidence["needed"], decision.evidence["parts"]["all"]["ndcg@10"]
    spread = spread_limit(measured["standard_error"] * np.sqrt(23), 22)
    assert plan["queries"] == judged_queries(spread, 0.01, alpha=0.05) == plan["more"] + 23
    assert any(f"{plan['judged']} so far, would find a gain of 0.01" in reason for reason in decision.reasons)
    worth = decide_offline(_small(23, 0.0), defaults.policy(metrics=("ndcg@10",), min_effect=0.03), 0.05)
    assert worth.evidence["needed"]["effect"] == 0.03


def test_a_test_that_cannot_win_is_not_made() -> None:
    """Where so few queries moved that even all gains would not reach alpha, nothing is tested and nothing spent."""
    decision = decide_offline(_small(23, 0.3, moving=5), POLICY, 0.01)
    assert (decision.verdict, decision.spent) == (Verdict.INCONCLUSIVE, 0.0)
    assert "even if all of them gained" in decision.reasons[0]


def test_no_golden_set_has_a_number_too() -> None:
    """Without any judged query the number goes by the usual spread, and says that it does."""
    decision = decide_offline(_small(0, 0.0), POLICY, 0.05)
    assert decision.evidence["needed"]["assumed"]
    assert any("the usual spread" in reason for reason in decision.reasons)


def test_challengers_without_a_gain_keep_the_level_on_few_queries() -> None:
    """Of 200 challengers that change nothing, judged on 30 queries, at most alpha are promoted."""
    rng = np.random.default_rng(8)
    promoted = 0
    for _ in range(200):
        champion = rng.beta(1.2, 0.7, 30)
        moved = np.where(rng.random(30) < 0.4, rng.choice((0.131, 0.369, 0.5), 30) * rng.choice((-1, 1), 30), 0.0)
        evidence = OfflineEvidence({"ndcg@10": (champion, champion + moved)}, np.arange(30) % 2 == 0, np.arange(30))
        promoted += decide_offline(evidence, POLICY, 0.05).verdict is Verdict.PROMOTE
    assert promoted / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_what_few_queries_can_do_is_said_as_the_gate_does_it() -> None:
    """Doctor and imports speak of the gate's own limits: enough, a large gain only, or nothing."""
    assert too_few(50, 50) is None
    assert "only a large gain is promoted, and below 15 nothing" in str(too_few(23, 50))
    assert str(too_few(3, 4)).endswith("nothing is promoted")
