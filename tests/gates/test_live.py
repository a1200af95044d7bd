"""The live verdict: what is promoted, what is stopped, and for which reason."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flywheel.gates.decision import PromotionPolicy, Verdict
from flywheel.gates.live import Arms, LiveEvidence, decide_live, decide_rollback
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.looks import Look
from flywheel.stats.ratio import ArmSums
from tests import defaults

POLICY = defaults.policy()
HALVES = {"champion": 1.0, "challenger": 1.0}


def _arm(rng: np.random.Generator, users: int, rate: float, heavy_gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Satisfied clicks and pages; `heavy_gain` is given to the most active users alone."""
    pages = 1 + np.floor(rng.pareto(1.8, users).clip(max=60))
    own = rng.beta(20 * rate, 20 * (1 - rate), users)
    own = np.where(pages > 8, own * (1 + heavy_gain), own).clip(max=1)
    return rng.binomial(pages.astype(int), own).astype(float), pages


def _arms(
    seed: int, gain: float, *, users: int = 40_000, rate: float = 0.25, heavy_gain: float = 0.0
) -> tuple[Arms, Arms]:
    """Whole and steady sums of both arms."""
    rng = np.random.default_rng(seed)
    rows = [_arm(rng, users, rate), _arm(rng, users, rate * (1 + gain), heavy_gain)]
    whole, steady = [], []
    for clicks, pages in rows:
        whole.append(ArmSums.of(clicks, pages))
        steady.append(ArmSums.of(clicks[pages <= 6], pages[pages <= 6]))
    return (whole[0], whole[1]), (steady[0], steady[1])


def _evidence(seed: int, gain: float, *, days: float = 7.0, **kind: float) -> LiveEvidence:
    whole, steady = _arms(seed, gain, **kind)  # type: ignore[arg-type]
    users = {"champion": whole[0].users, "challenger": whole[1].users}
    return LiveEvidence({"satisfied_ctr": whole}, steady, users=users, shares=HALVES, days=days)


def _with(evidence: LiveEvidence, **metrics: Arms) -> LiveEvidence:
    return LiveEvidence({**evidence.metrics, **metrics}, evidence.steady, users=evidence.users, shares=HALVES, days=7.0)


def test_gain_is_promoted_with_its_sums() -> None:
    """A clear gain ends the experiment, spends alpha, and its record survives JSON with the sums that reproduce it."""
    decision = decide_live(_evidence(0, 0.10), POLICY, 0.01)
    assert (decision.verdict, decision.spent, decision.final) == (Verdict.PROMOTE, 0.01, True)
    record = json.loads(json.dumps(decision.as_dict(), allow_nan=False))["evidence"]
    arms = record["metrics"]["satisfied_ctr"]
    again = ArmSums.from_dict(arms["challenger"]).ratio / ArmSums.from_dict(arms["champion"]).ratio - 1
    assert again == pytest.approx(record["primary"]["effect"])


def test_no_difference_goes_on_then_expires() -> None:
    """With nothing to tell it goes on and spends nothing, until it expires inconclusive and spends its alpha."""
    early, late = (decide_live(_evidence(1, 0.0, days=days), POLICY, 0.01) for days in (3.0, 28.0))
    assert (early.verdict, early.final, early.spent) == (Verdict.INCONCLUSIVE, False, 0.0)
    assert (late.verdict, late.final, late.spent) == (Verdict.INCONCLUSIVE, True, 0.01)
    assert "expired" in late.reasons[0]


def test_few_users_decide_nothing() -> None:
    """Below `min_users` even a huge difference waits."""
    decision = decide_live(_evidence(2, 1.0, users=150), POLICY, 0.05)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "200 needed" in decision.reasons[0]


def test_worse_is_rejected() -> None:
    """A challenger that loses satisfied clicks is stopped before it expires."""
    decision = decide_live(_evidence(3, -0.10), POLICY, 0.01)
    assert decision.verdict is Verdict.REJECT
    assert "worse" in decision.reasons[0]


def test_clickbait_is_named() -> None:
    """More clicks and fewer satisfied ones is a rejection, and the reason says clickbait."""
    clicks, _ = _arms(5, 0.10, rate=0.4)
    decision = decide_live(_with(_evidence(4, -0.10), ctr=clicks), POLICY, 0.01)
    assert decision.verdict is Verdict.REJECT
    assert "clickbait" in decision.reasons[1]


def test_clickbait_that_nobody_could_reject_is_named_at_its_end() -> None:
    """A loss too small for a rejection in four weeks, with more clicks, expires under its name, and no gain is told."""
    clicks, _ = _arms(5, 0.10, rate=0.4)
    evidence = replace(_with(_evidence(4, -0.03), ctr=clicks), days=28.0)
    late = decide_live(evidence, POLICY, 0.01)
    assert (late.verdict, late.final) == (Verdict.INCONCLUSIVE, True)
    assert "clickbait" in late.reasons[2]
    assert not any("most active twentieth" in reason for reason in late.reasons)


def test_fewer_clicks_of_every_kind_are_no_clickbait() -> None:
    """Where clicks fall too, as much as the satisfied ones or less, or these hardly change, nobody calls it that."""
    for seed in range(10):
        for clicks, satisfied in ((-0.10, -0.10), (-0.03, -0.10), (0.10, 0.01)):
            evidence = _with(_evidence(seed, satisfied), ctr=_arms(seed + 50, clicks, rate=0.4)[0])
            reasons = decide_live(replace(evidence, days=28.0), POLICY, 0.01).reasons
            assert not any("clickbait" in reason for reason in reasons)


def test_slow_challenger_is_stopped() -> None:
    """A gain does not buy a third more latency."""
    rng = np.random.default_rng(6)
    slow = tuple(ArmSums.of(rng.lognormal(np.log(ms), 0.5, 5_000)) for ms in (60.0, 80.0))
    decision = decide_live(_with(_evidence(0, 0.10), latency_ms=(slow[0], slow[1])), POLICY, 0.01)
    assert decision.verdict is Verdict.REJECT
    assert "latency_ms" in decision.reasons[0]


@pytest.mark.parametrize(("before", "after", "broken"), [(30.0, 500.0, True), (30.0, 30.0, False), (30.0, 30.1, False)])
def test_guardrails_hold_where_all_pages_are_alike(before: float, after: float, broken: bool) -> None:
    """A latency that does not vary within either arm is broken by a rise, and by nothing else."""
    arms = (ArmSums.of(np.full(5_000, before)), ArmSums.of(np.full(5_000, after)))
    decision = decide_live(_with(_evidence(0, 0.10), latency_ms=arms), POLICY, 0.01)
    assert decision.verdict is (Verdict.REJECT if broken else Verdict.PROMOTE)


def test_steady_guardrails_do_not_block() -> None:
    """Guardrails that do not move leave a gain its promotion in most runs."""
    promoted = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        same = [ArmSums.of(rng.lognormal(4, 0.5, 40_000)) for _ in range(2)]
        empty = [ArmSums.of((rng.random(40_000) < 0.01).astype(float)) for _ in range(2)]
        evidence = _with(_evidence(seed, 0.10), latency_ms=(same[0], same[1]), empty_rate=(empty[0], empty[1]))
        promoted += decide_live(evidence, POLICY, 0.01).verdict is Verdict.PROMOTE
    assert promoted >= 25


def test_gain_of_a_few_heavy_users_waits() -> None:
    """A gain that only the most active users have is not promoted, and the reason says whose it is."""
    decision = decide_live(_evidence(7, 0.0, heavy_gain=0.5), POLICY, 0.05)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.evidence["primary"]["e_gain"] > 20
    assert any("most active twentieth" in reason for reason in decision.reasons)


def test_broken_split_is_void() -> None:
    """A sample ratio mismatch, or many users in both arms, voids even a clear gain."""
    good = _evidence(0, 0.10)
    skewed = LiveEvidence(good.metrics, users={"champion": 40_000, "challenger": 38_000}, shares=HALVES)
    crossed = LiveEvidence(good.metrics, users=good.users, shares=HALVES, crossed=9_000)
    for evidence, words in ((skewed, "mismatch"), (crossed, "both arms")):
        decision = decide_live(evidence, POLICY, 0.05)
        assert (decision.verdict, decision.final) == (Verdict.INCONCLUSIVE, True)
        assert words in decision.reasons[0]


def test_preference_decides_interleaving() -> None:
    """Where pages are interleaved, users' preference is what is judged, in either direction."""
    rng = np.random.default_rng(8)
    few, many = rng.poisson(0.8, 6_000).astype(float), rng.poisson(1.0, 6_000).astype(float)
    better, worse = PreferenceSums.of(few, many), PreferenceSums.of(many, few)
    assert decide_live(LiveEvidence(preference=better, days=7.0), POLICY, 0.01).verdict is Verdict.PROMOTE
    assert decide_live(LiveEvidence(preference=worse), POLICY, 0.01).verdict is Verdict.REJECT
    nothing = decide_live(LiveEvidence(), POLICY, 0.01)
    assert (nothing.verdict, nothing.final) == (Verdict.INCONCLUSIVE, False)


def test_unanimous_users_decide() -> None:
    """A challenger that nobody prefers is rejected, and one that everybody prefers promoted."""
    none, all_of_them = np.zeros(500), np.ones(500)
    better, worse = PreferenceSums.of(none, all_of_them), PreferenceSums.of(all_of_them, none)
    assert decide_live(LiveEvidence(preference=better, days=7.0), POLICY, 0.01).verdict is Verdict.PROMOTE
    assert decide_live(LiveEvidence(preference=worse), POLICY, 0.01).verdict is Verdict.REJECT


def test_daily_looks_promote_at_most_alpha() -> None:
    """Looking at an A/A split every day for a month promotes it at most as often as asked."""
    promoted = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        sums = [ArmSums(), ArmSums()]
        for day in range(28):
            for side in (0, 1):
                sums[side] = sums[side] + ArmSums.of(*_arm(rng, 150, 0.25))
            evidence = LiveEvidence({"satisfied_ctr": (sums[0], sums[1])}, days=float(day + 1))
            if decide_live(evidence, POLICY, 0.05).verdict is Verdict.PROMOTE:
                promoted += 1
                break
    assert promoted / 150 <= 0.05 + 2 * 0.018


def test_rollback_needs_its_own_alpha() -> None:
    """A regressed champion is rolled back, an equal one is kept, and a doubtful one is watched further."""
    assert decide_rollback(_evidence(9, -0.15), POLICY, 0.001).verdict is Verdict.REJECT
    assert decide_rollback(_evidence(1, 0.0), POLICY, 0.001).verdict is Verdict.INCONCLUSIVE
    doubtful = next(
        e for e in (_evidence(s, -0.035) for s in range(40)) if decide_live(e, POLICY, 0.01).verdict == "reject"
    )
    found = decide_rollback(doubtful, POLICY, 1e-9)
    assert (found.verdict, found.final) == (Verdict.INCONCLUSIVE, False)


def test_first_days_promote_nothing() -> None:
    """A clear gain waits until a whole week is over; a clear loss does not."""
    early = decide_live(_evidence(0, 0.10, days=2.0), POLICY, 0.01)
    assert (early.verdict, early.final) == (Verdict.INCONCLUSIVE, False)
    assert any("2.0 days" in reason for reason in early.reasons)
    assert decide_live(_evidence(3, -0.10, days=2.0), POLICY, 0.01).verdict is Verdict.REJECT


def test_rollback_level_holds_for_guardrails_too() -> None:
    """A guardrail that would stop a challenger is not enough to roll a champion back at a far smaller level."""
    rng = np.random.default_rng(6)
    slow = tuple(ArmSums.of(rng.lognormal(np.log(ms), 0.5, 5_000)) for ms in (60.0, 70.5))
    evidence = _with(_evidence(1, 0.0), latency_ms=(slow[0], slow[1]))
    assert decide_live(evidence, POLICY, 0.01).verdict is Verdict.REJECT
    assert decide_rollback(evidence, POLICY, 1e-6).verdict is Verdict.INCONCLUSIVE


def test_guardrail_knows_the_error_of_its_margin() -> None:
    """A challenger exactly at the tolerated rise trips the guardrail in at most the asked share of runs."""
    tripped = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        arms = [ArmSums.of(rng.lognormal(np.log(ms), 0.5, 1_000)) for ms in (60.0, 66.0)]
        tripped += "guardrail" in decide_live(LiveEvidence({"latency_ms": (arms[0], arms[1])}), POLICY, 0.01).reasons[0]
    assert tripped / 300 <= 0.05


PLANNED = defaults.policy(looks=(0.25, 0.5, 0.75, 1.0))


def _watched(policy: PromotionPolicy, gain: float, seed: int, alpha: float = 0.05) -> tuple[Verdict, float]:
    """Daily calls, each given the looks that the one before wrote down; the verdict and its day."""
    rng = np.random.default_rng(seed)
    sums, looks = [ArmSums(), ArmSums()], tuple[Look, ...]()
    for day in range(1, 29):
        for side, rate in enumerate((0.25, 0.25 * (1 + gain))):
            sums[side] = sums[side] + ArmSums.of(*_arm(rng, 150, rate))
        evidence = LiveEvidence({"satisfied_ctr": (sums[0], sums[1])}, days=float(day), looks=looks)
        decision = decide_live(evidence, policy, alpha)
        looks = tuple(Look(**look) for look in json.loads(json.dumps(decision.evidence))["looks"])
        if decision.final:
            return decision.verdict, float(day)
    raise AssertionError("it never expired")


def test_planned_looks_keep_alpha_and_find_more() -> None:
    """Four planned looks, called daily, promote an A/A split at most as often as asked, and find a gain more often
    than looks at any time do."""
    false = sum(_watched(PLANNED, 0.0, seed)[0] is Verdict.PROMOTE for seed in range(60))
    assert false / 60 <= 0.05 + 2 * 0.029
    planned, daily = ([_watched(policy, 0.10, seed) for seed in range(30)] for policy in (PLANNED, POLICY))
    found = [sum(verdict is Verdict.PROMOTE for verdict, _ in runs) for runs in (planned, daily)]
    assert found[0] > found[1] > 0
    assert {day for verdict, day in planned if verdict is Verdict.PROMOTE} <= {7.0, 14.0, 21.0, 28.0}


def test_cuped_is_a_setting() -> None:
    """What users did before sharpens the verdict, unless the policy leaves it out."""
    rng = np.random.default_rng(12)
    arms = []
    for gain in (1.0, 1.06):
        pages = 1.0 + rng.poisson(8, 3_000)
        own = rng.beta(2, 6, 3_000)
        before = rng.binomial(40, own) - 40 * 0.25
        arms.append(ArmSums.of(rng.binomial(pages.astype(int), (own * gain).clip(max=1)).astype(float), pages, before))
    evidence = LiveEvidence({"satisfied_ctr": (arms[0], arms[1])}, days=10.0)
    errors = [
        decide_live(evidence, defaults.policy(cuped=cuped), 0.05).evidence["primary"]["standard_error"]
        for cuped in (True, False)
    ]
    assert errors[0] < 0.8 * errors[1]
