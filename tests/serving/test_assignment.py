"""Assignment: uniform, sticky, independent between experiments."""

from __future__ import annotations

import numpy as np
from scipy import stats

from flywheel.serving.assignment import assign, position, seed
from flywheel.serving.served import LiveExperiment

PEOPLE = [f"client-{number}" for number in range(20_000)]


def test_people_are_spread_evenly() -> None:
    """Positions pass Kolmogorov-Smirnov against the uniform distribution, and another experiment's do not follow."""
    here = np.array([position("e1", person) for person in PEOPLE])
    there = np.array([position("e2", person) for person in PEOPLE])
    assert stats.kstest(here, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.03


def test_a_ramp_moves_nobody() -> None:
    """While the share grows nobody changes arms or leaves one, and both arms are as large as asked."""
    for method in ("split", "holdback"):
        before: dict[str, set[str]] = {"challenger": set(), "champion": set()}
        for share in (0.05, 0.2, 0.5):
            arms = {
                arm: {person for person in PEOPLE if assign(LiveExperiment("e1", method, share), person) == arm}
                for arm in before
            }
            assert all(before[arm] < arms[arm] for arm in arms)
            assert all(abs(len(people) / len(PEOPLE) - share) < 0.012 for people in arms.values())
            before = arms


def test_shares_of_nothing_and_everything_hold_exactly() -> None:
    """Share 0 reaches nobody, share 1 everybody; those between the arms are no part of the comparison."""
    some = PEOPLE[:500]
    assert {assign(LiveExperiment("e", "split", 0.0), person) for person in some} == {None}
    assert {assign(LiveExperiment("e", "split", 0.2), person) for person in some} == {None, "champion", "challenger"}
    assert {assign(LiveExperiment("e", "split", 0.5), person) for person in some} == {"champion", "challenger"}
    assert {assign(LiveExperiment("e", "split", 1.0), person) for person in some} == {"challenger"}
    assert {assign(LiveExperiment("e", "interleaving", 0.0), person) for person in some} == {None}
    assert {assign(LiveExperiment("e", "interleaving", 0.5), person) for person in some} == {None, "interleaved"}
    assert assign(None, "c") is None
    assert assign(LiveExperiment("e", "split", 1.0), None) is None


def test_parts_cannot_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different people of different experiments; odd text is text too."""
    assert seed("ab", "c") != seed("a", "bc")
    assert isinstance(position("e", "\ud800"), float)
