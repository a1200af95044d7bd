"""The rows of `ab_outcomes` say what the live verdict said, and follow from their own sums."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from flywheel.experiments import outcomes
from flywheel.gates.decision import Verdict
from flywheel.gates.live import Arms, LiveEvidence, decide_live, decide_rollback
from flywheel.stats.ratio import ArmSums
from flywheel.store import Store
from flywheel.store.evaluation.experiments import Experiment
from tests import defaults
from tests.store.make import NOW, recomputed

POLICY = defaults.policy(min_users=50, min_days=0)


def _experiment(number: int) -> Experiment:
    return Experiment(f"x{number:03d}", "v1", "v0", "split", NOW)


def _arms(rng: np.random.Generator, rate: float, gain: float) -> Arms:
    arms = []
    for users, mean in zip(rng.integers(30, 3_000, 2), (rate, rate * gain), strict=True):
        pages = 1.0 + rng.poisson(3, users)
        own = np.clip(rng.normal(mean, mean / 2, users), 0, 1)
        value = rng.binomial(pages.astype(int), own).astype(float)
        before = rng.binomial(10, own) - 10 * mean
        arms.append(ArmSums.of(value, pages, before))
    return arms[0], arms[1]


def _evidence(seed: int) -> LiveEvidence:
    """Anything from no click in an arm to a doubled rate, with guardrails that may break."""
    rng = np.random.default_rng(seed)
    rate = float(rng.choice([0.0005, 0.01, 0.2]))
    metrics = {
        "satisfied_ctr": _arms(rng, rate, rng.choice([0.8, 1.0, 1.1, 2.0])),
        "ctr": _arms(rng, 0.3, 1.0),
        "abandonment": _arms(rng, 0.3, rng.choice([0.9, 1.0, 1.05, 1.3])),
    }
    return LiveEvidence(metrics, days=float(rng.choice([3, 28])))


@pytest.fixture
def store(tmp_path: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1)  # type: ignore[operator]


def test_rows_and_verdicts_never_disagree(store: Store) -> None:
    """Over many random sums, with CUPED and without, watched or planned: the row of the live metric has the effect, the
    interval, the e-values and the word of the decision, a guardrail's row is worse just when it is broken, and the
    statement in the docs gives every row's figures back from its sums."""
    said = set()
    rows = []
    for seed in range(120):
        policy = replace(POLICY, cuped=seed % 3 > 0, looks=(0.5, 1.0) if seed % 5 == 0 else ())
        decision = (decide_rollback if seed % 7 == 0 else decide_live)(_evidence(seed), policy, 0.05)
        found = {row.metric: row for row in outcomes.live(_experiment(seed), decision, policy, NOW)}
        rows += found.values()
        live, primary = found["satisfied_ctr"], decision.evidence.get("primary", {"verdict": "inconclusive"})
        said.add((decision.verdict, live.verdict))
        assert live.verdict == primary["verdict"]
        assert (live.e_value, live.e_loss) == (primary.get("e_gain"), primary.get("e_loss"))
        if "effect" in primary:
            ends = tuple(math.expm1(at or 0) for at in (live.effect, live.low, live.high))
            assert ends == pytest.approx((primary["effect"], primary["low"], primary["high"]))
        guard = decision.evidence["guardrails"].get("abandonment", {"broken": False})
        assert (found["abandonment"].verdict == "worse") == guard["broken"]
        if decision.verdict is Verdict.PROMOTE:
            assert live.verdict == "better"
        if decision.verdict is Verdict.REJECT:
            assert "worse" in (live.verdict, found["abandonment"].verdict)
    assert {verdict for verdict, _ in said} == set(Verdict)
    assert {word for _, word in said} == {"better", "worse", "inconclusive"}
    with store:
        store.outcomes.record(rows)
        again = {(row["experiment_id"], row["metric"]): row for row in recomputed(store)}
    known = [row for row in rows if row.effect is not None]
    assert len(known) > 300
    for row in known:
        computed = again[row.experiment_id, row.metric]
        got = tuple(computed[name] for name in ("effect", "low", "high"))
        assert got == pytest.approx((row.effect, row.low, row.high), rel=1e-6, abs=1e-9), row
