"""Assignment: uniform, sticky, independent between experiments."""

from __future__ import annotations

import numpy as np
from scipy import stats

from flywheel.serving.arms import assign, position, seed
from flywheel.serving.live import Experiment

PEOPLE = [f"client-{number}" for number in range(20_000)]


def test_people_are_spread_evenly() -> None:
    """Positions pass Kolmogorov-Smirnov against the uniform distribution, and another experiment's do not follow."""
    here = np.array([position("e1", person) for person in PEOPLE])
    there = np.array([position("e2", person) for person in PEOPLE])
    assert stats.kstest(here, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.03


def test_a_ramp_moves_nobody_back() -> None:
    """Whoever is in the challenger's arm at 5 % is in it at 20 %, and the shares are as asked."""
    arms = {
        share: {person for person in PEOPLE if assign(Experiment("e1", "split", share), person) == "challenger"}
        for share in (0.05, 0.2, 0.5)
    }
    assert arms[0.05] < arms[0.2] < arms[0.5]
    assert all(abs(len(people) / len(PEOPLE) - share) < 0.012 for share, people in arms.items())


def test_shares_of_nothing_and_everything_hold_exactly() -> None:
    """Share 0 reaches nobody, share 1 everybody; interleaving leaves the others out of the comparison."""
    some = PEOPLE[:500]
    assert {assign(Experiment("e", "split", 0.0), person) for person in some} == {"champion"}
    assert {assign(Experiment("e", "split", 1.0), person) for person in some} == {"challenger"}
    assert {assign(Experiment("e", "interleaving", 0.0), person) for person in some} == {None}
    assert {assign(Experiment("e", "interleaving", 0.5), person) for person in some} == {None, "interleaved"}
    assert assign(None, "c") is None
    assert assign(Experiment("e", "split", 1.0), None) is None


def test_parts_cannot_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different people of different experiments; odd text is text too."""
    assert seed("ab", "c") != seed("a", "bc")
    assert isinstance(position("e", "\ud800"), float)
