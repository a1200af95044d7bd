"""Metrics of the product's own in live verdicts: which way is better, what may be lost, and how often they err."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from flywheel.gates.decision import GUARDRAILS, Guardrail, Verdict
from flywheel.gates.live import Arms, LiveEvidence, decide_live
from flywheel.stats.estimate import Estimate
from flywheel.stats.ratio import ArmSums, log_ratio
from flywheel.stats.sequential import sequence
from flywheel.stats.winsor import winsorised
from tests import defaults

POLICY = defaults.policy(live_metric="revenue", min_days=0.0, min_users=100)
SECONDS = replace(POLICY, live_metric="wait", lower=frozenset({"wait"}))
ALPHA = 0.1


def _arms(seed: int, factor: float, users: int = 4_000) -> Arms:
    rng = np.random.default_rng(seed)
    made = []
    for times in (1.0, factor):
        pages = 1.0 + rng.poisson(2.0, users)
        made.append(ArmSums.of(rng.gamma(2.0, times, users) * pages, pages))
    return made[0], made[1]


def _evidence(**metrics: Arms) -> LiveEvidence:
    return LiveEvidence(metrics=metrics, days=10.0)


@pytest.mark.parametrize(
    ("factor", "verdict", "words"),
    [
        (0.8, Verdict.PROMOTE, ("takes over", "less is better", "-")),
        (1.25, Verdict.REJECT, ("stays", "less would be better", "+")),
        (1.0, Verdict.INCONCLUSIVE, ("stays for now", "cannot be told")),
    ],
)
def test_less_is_a_gain_where_less_is_better(factor: float, verdict: Verdict, words: tuple[str, ...]) -> None:
    """A shorter wait promotes, a longer one rejects, and figures and words keep the metric's own direction."""
    decision = decide_live(_evidence(wait=_arms(1, factor)), SECONDS, 0.05)
    found = decision.evidence["primary"]
    assert decision.verdict is verdict
    assert found["effect"] == pytest.approx(factor - 1, abs=0.05)
    assert found["interval"][0] < found["effect"] < found["interval"][1]
    assert all(word in decision.headline for word in words), decision.headline


def test_a_metric_and_its_mirror_say_the_same() -> None:
    """Of the same arms, "more of it is worse" rejects just where "more of it is better" promotes."""
    for seed, factor in enumerate((0.9, 0.96, 1.0, 1.04, 1.1)):
        arms = _arms(seed, factor)
        more = decide_live(_evidence(revenue=arms), POLICY, 0.05).evidence["primary"]
        less = decide_live(_evidence(wait=arms[::-1]), SECONDS, 0.05).evidence["primary"]
        assert more["verdict"] == less["verdict"]
        assert (more["e_gain"], more["e_loss"]) == pytest.approx((less["e_gain"], less["e_loss"]))
        assert (1 + more["effect"]) * (1 + less["effect"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("falls", "factor", "broken"), [(True, 0.8, True), (True, 1.25, False), (False, 1.25, True), (False, 0.8, False)]
)
def test_a_guardrail_watches_the_side_that_is_worse(falls: bool, factor: float, broken: bool) -> None:
    """Revenue must not fall, a wait must not rise, each by more than its share; the other side is free."""
    guard = Guardrail("own", 0.02, 0.0, falls=falls)
    policy = replace(POLICY, live_metric="ctr", guardrails=(*GUARDRAILS, guard))
    decision = decide_live(_evidence(ctr=_arms(5, 1.0), own=_arms(2, factor)), policy, 0.05)
    assert (decision.verdict is Verdict.REJECT) is broken
    assert decision.evidence["guardrails"]["own"]["broken"] is broken
    if broken:
        assert f"more than the tolerated {'fall' if falls else 'rise'}" in decision.headline


def test_what_is_not_above_0_has_no_gain_in_percent() -> None:
    """A negative total is no ratio, and the verdict says so instead of a number."""
    sunk = replace(_arms(3, 1.0)[1], value=-50.0)
    decision = decide_live(_evidence(revenue=(sunk, _arms(3, 1.0)[1])), POLICY, 0.05)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "below 0" in decision.headline


def looks(rng: np.random.Generator, *, users: int = 1_500, times: int = 8) -> Iterator[Arms]:
    """A revenue that few people bring, some of them much, of equal arms: cut and summed up anew at each look.

    People come back, so that their totals grow from look to look.
    """
    shape = (users, times)
    pages = [rng.poisson(0.6, shape) for _ in range(2)]
    taste = [rng.beta(0.3, 3.0, users)[:, None] for _ in range(2)]
    spent = [rng.binomial(p, t) * 20 * (1 + rng.pareto(1.6, shape)) for p, t in zip(pages, taste, strict=True)]
    for look in range(1, times + 1):
        tables = {}
        for name, bought, seen in zip(("a", "b"), spent, pages, strict=True):
            table = np.column_stack([seen[:, :look].sum(1), bought[:, :look].sum(1)]).astype(float)
            tables[name] = table[table[:, 0] > 0]
        cut = winsorised(tables, columns=(1,), quantile=0.99)
        yield ArmSums.of(cut["a"][:, 1], cut["a"][:, 0]), ArmSums.of(cut["b"][:, 1], cut["b"][:, 0])


def errors(runs: int, seed: int) -> tuple[float, float, float]:
    """Shares of runs of equal arms that promote, that reject, and whose 95 % sequence once missed the truth."""
    rng, found = np.random.default_rng(seed), np.zeros(3)
    for _ in range(runs):
        verdicts, missed = set(), False
        for arms in looks(rng):
            verdicts.add(decide_live(_evidence(revenue=arms), POLICY, ALPHA).verdict)
            told = log_ratio(*arms)
            if isinstance(told, Estimate):
                low, high = sequence(told, expected=POLICY.expected_gain)
                missed |= not low <= 0 <= high
        found += [Verdict.PROMOTE in verdicts, Verdict.REJECT in verdicts, missed]
    return tuple(found / runs)  # type: ignore[return-value]


@pytest.mark.slow
def test_looking_daily_at_a_heavy_tailed_revenue_errs_at_most_as_often_as_said() -> None:
    """Equal arms, eight looks, extremes cut anew at each: promoted in at most alpha of the runs, covered in 95 %."""
    runs = 400
    promoted, rejected, missed = errors(runs, seed=11)
    for share, level in ((promoted, ALPHA), (rejected, 0.05), (missed, 0.05)):
        assert share <= level + 2 * np.sqrt(level * (1 - level) / runs)
