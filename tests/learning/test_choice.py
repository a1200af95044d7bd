"""The choice among challengers: one standard error, the cheaper one, and what is clearly worse."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.learning.choice import Contender, choose, gain, told

RNG = np.random.default_rng(0)
CHAMPION = RNG.uniform(0.3, 0.7, 60)
NOISE = RNG.normal(0, 0.1, (6, 60))
NOISE -= NOISE.mean(axis=1, keepdims=True)


def contender(name: str, cost: int, effect: float, noise: int) -> Contender:
    return Contender(name, cost, CHAMPION + effect + NOISE[noise])


def test_a_dear_way_within_one_standard_error_loses_to_a_cheap_one() -> None:
    """Half a standard error ahead is not enough to embed every document again."""
    choice = choose([contender("cheap", 0, 0.10, 0), contender("dear", 1, 0.108, 1)], CHAMPION)
    assert (choice.chosen, choice.states["dear"]) == ("cheap", "near")


def test_a_dear_way_that_is_clearly_better_wins() -> None:
    """Three standard errors ahead it is worth its price."""
    choice = choose([contender("cheap", 0, 0.10, 0), contender("dear", 1, 0.16, 1)], CHAMPION)
    assert (choice.chosen, choice.states["cheap"]) == ("dear", "worse")


def test_of_equally_cheap_ways_the_better_wins_and_the_first_of_equals() -> None:
    """The order decides nothing but a tie."""
    assert choose([contender("a", 0, 0.1, 0), contender("b", 0, 0.101, 1)], CHAMPION).chosen == "b"
    assert choose([contender("a", 0, 0.1, 0), contender("b", 0, 0.1, 0)], CHAMPION).chosen == "a"


def test_nothing_is_chosen_where_all_are_clearly_worse_than_the_champion() -> None:
    """A loss of two standard errors ends the turn; a loss within noise still meets the gate."""
    error = gain(CHAMPION, CHAMPION + NOISE[0])[1]
    assert choose([contender("a", 0, -2 * error, 0)], CHAMPION).chosen is None
    assert choose([contender("a", 0, -1 * error, 0)], CHAMPION).chosen == "a"


def test_the_gain_agrees_with_the_paired_t_statistic_of_scipy() -> None:
    """Mean over standard error is the t statistic of the paired test."""
    from scipy.stats import ttest_rel

    theirs = CHAMPION + 0.02 + NOISE[2]
    effect, error = gain(CHAMPION, theirs)
    assert effect / error == pytest.approx(ttest_rel(theirs, CHAMPION).statistic)


def test_a_report_has_no_figure_where_there_is_none() -> None:
    """Without queries about unseen documents their gain is null, not zero."""
    facts = told(CHAMPION, CHAMPION, np.zeros(60, np.bool_))
    assert (facts["unseen_gain"], facts["unseen_queries"], facts["gain"]) == (None, 0, 0.0)
