"""A tenth of the simulation of fields of challengers none of which is better."""

from __future__ import annotations

import numpy as np

from benchmarks.field import ranked, turns


def test_the_best_of_six_that_are_no_better_keeps_the_budget() -> None:
    """Chosen by labels that the gate does not see, it is promoted no more often than the levels allow (2.6 sd)."""
    found = turns(100, 6, 0)
    assert found["allowed"] > 0.5
    assert found["promoted"] <= found["allowed"] + 2.6 * found["error"]


def test_the_field_is_exchangeable_with_its_champion() -> None:
    """Over 20,000 queries each challenger's scores are the champion's, and many queries tie."""
    made = ranked(np.random.default_rng(1), 20_000, 6)
    assert np.ptp(made.ndcg.mean(axis=1)) < 0.012
    assert 0.3 < (made.ndcg[0] == made.ndcg[1]).mean() < 0.8
