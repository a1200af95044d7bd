"""Verdicts can be recomputed from their sums in SQL, for both designs."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.store import Store
from flywheel.store.evaluation.outcomes import Outcome, OutcomeSums, offline
from tests import defaults
from tests.store.make import NOW, recomputed


def test_an_offline_gates_figures_follow_from_its_sums(store: Store) -> None:
    """Effect and interval of every metric and part equal those that the gate gave, with grouped queries too."""
    rng = np.random.default_rng(1)
    before = rng.random(200)
    after = np.clip(before + rng.normal(0.03, 0.1, 200), 0, 1)
    evidence = OfflineEvidence(
        metrics={"recall@10": (before, after), "ndcg@10": (after, before)},
        seen=rng.random(200) < 0.5,
        groups=rng.integers(0, 80, 200),
    )
    decision = decide_offline(evidence, defaults.policy(), 0.05)
    made = offline("x1", decision.evidence, decision.reasons, NOW)
    store.outcomes.record(made)
    store.outcomes.record(made)
    kept, again = store.outcomes.of("x1"), recomputed(store)
    assert len(kept) == len(again) == 6
    for given, computed in zip(kept, again, strict=True):
        for figure in ("effect", "low", "high"):
            assert computed[figure] == pytest.approx(given[figure], rel=1e-9, abs=1e-12)


def test_a_splits_figures_follow_from_its_sums(store: Store) -> None:
    """The delta method over users, computed here with numpy from the rows themselves."""
    rng = np.random.default_rng(2)
    arms, means, errors = [], [], []
    for users, rate in ((300, 0.3), (200, 0.35)):
        pages = rng.geometric(0.2, users).astype(float)
        clicks = rng.binomial(pages.astype(int), rate).astype(float)
        sums = [float(value) for value in (pages.sum(), pages @ pages, clicks.sum(), clicks @ clicks, clicks @ pages)]
        arms.append(OutcomeSums(users, *sums))
        mean = clicks.sum() / pages.sum()
        means.append(mean)
        errors.append(np.var(clicks - mean * pages, ddof=1) * users / pages.sum() ** 2)
    effect, error = means[1] - means[0], float(np.sqrt(sum(errors)))
    store.outcomes.record(
        [Outcome("x", "split", "ctr", "all", arms[0], arms[1], "better", ("why",), NOW, effect=effect, critical=1.96)]
    )
    (computed,) = recomputed(store)
    assert computed["effect"] == pytest.approx(effect)
    assert computed["standard_error"] == pytest.approx(error)
    assert computed["high"] == pytest.approx(effect + 1.96 * error)


def test_no_answer_stays_no_answer(store: Store) -> None:
    """One judged query has no spread: the row says inconclusive, with null and not 0 for its effect."""
    none = {"parts": {"all": {"mrr@10": {"inconclusive": "1 query", "sums": _sums()}}}}
    store.outcomes.record(offline("x", none, ("too few",), NOW))
    (row,) = store.outcomes.of("x")
    assert (row["verdict"], row["effect"], row["p_value"], row["reasons"]) == ("inconclusive", None, None, ["1 query"])
    assert recomputed(store)[0]["low"] is None


def _sums() -> dict[str, float]:
    from flywheel.stats.paired import PairedSums

    return PairedSums.of(np.array([0.5]), np.array([1.0])).as_dict()
