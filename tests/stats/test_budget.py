"""The budget that a stream of challengers shares."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.references import expected_false_promotions
from flywheel.stats.budget import ErrorBudget, Spent
from tests import defaults

DAY_MS = 86_400_000


def _year(budget: ErrorBudget, p_values: np.ndarray, days_apart: float = 7.0) -> list[Spent]:
    history: list[Spent] = []
    for week, p_value in enumerate(p_values):
        now = int(week * days_apart * DAY_MS)
        alpha = budget.next_alpha(history, now)
        history.append(Spent(alpha, promoted=bool(p_value <= alpha), at_ms=now))
    return history


def test_null_year_costs_less_than_half_a_promotion() -> None:
    """52 weekly challengers, none better: fewer than 0.5 false promotions a year, and no more than the bound says."""
    rng = np.random.default_rng(0)
    budget = defaults.errors()
    found = np.mean([sum(past.promoted for past in _year(budget, rng.random(52))) for _ in range(1_500)])
    assert expected_false_promotions(budget) < 0.36
    assert expected_false_promotions(budget, days=5 * budget.renew_days) < 0.45
    assert found < expected_false_promotions(budget)


def test_challengers_alike_cost_no_more() -> None:
    """Challengers that share nearly all of their luck, until one is promoted and becomes what they are held against,
    stay within the bound too."""
    rng = np.random.default_rng(2)
    budget = defaults.errors()
    false = 0
    for _ in range(1_500):
        history: list[Spent] = []
        champion, common = 0.0, rng.normal()
        for week in range(52):
            luck = 0.95 * common + math.sqrt(1 - 0.95**2) * rng.normal()
            alpha = budget.next_alpha(history, now := week * 7 * DAY_MS)
            promoted = bool(stats.norm.sf(luck - champion) <= alpha)
            history.append(Spent(alpha, promoted, now))
            champion = luck if promoted else champion
            false += promoted
    assert false / 1_500 < expected_false_promotions(budget)


def test_frequent_challengers_cost_no_more() -> None:
    """Eight challengers a day for a year stay within the same bound as one a week."""
    rng = np.random.default_rng(1)
    budget = defaults.errors()
    found = np.mean([sum(p.promoted for p in _year(budget, rng.random(360), 0.25)) for _ in range(60)])
    assert found < expected_false_promotions(budget, days=90) * 1.8


def test_first_challengers_can_win() -> None:
    """A clear gain (z = 3) is within reach for each of the first four, with alpha shared by two metrics."""
    history: list[Spent] = []
    for _ in range(4):
        alpha = defaults.errors().next_alpha(history)
        assert alpha / 2 > 0.00135
        history.append(Spent(alpha, promoted=False))


def test_levels_never_come_to_more_than_the_wealth() -> None:
    """With no promotion all levels of a period sum to less than alpha, and each promotion adds at most alpha."""
    budget = ErrorBudget(alpha=0.05, initial=1.0)
    losing = _year(budget, np.ones(2_000), days_apart=0.01)
    assert 0.9 * 0.05 < sum(past.alpha for past in losing) < 0.05
    winning = _year(budget, np.zeros(200), days_apart=0.01)
    assert sum(past.alpha for past in winning) < 0.05 * 200


def test_promotion_pays_and_its_rollback_takes_back() -> None:
    """A second promotion raises the next level; one that was rolled back does not."""
    plain = [Spent(0.01, promoted=True), Spent(0.01, promoted=False)]
    earned = [Spent(0.01, promoted=True), Spent(0.01, promoted=True)]
    undone = [Spent(0.01, promoted=True), Spent(0.01, promoted=True, rolled_back=True)]
    budget = defaults.errors()
    assert budget.next_alpha(earned) > budget.next_alpha(plain) == budget.next_alpha(undone)


def test_period_renews() -> None:
    """A new period starts with the first level again, whatever the last one spent."""
    budget = defaults.errors(renew_days=30)
    history = [Spent(0.01, promoted=False, at_ms=day * DAY_MS) for day in range(20)]
    assert budget.next_alpha(history, 21 * DAY_MS) < budget.next_alpha(history, 31 * DAY_MS) == budget.next_alpha([])


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"initial": 0.0}, {"renew_days": 0.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    """A budget that could promise nothing is refused when it is made."""
    with pytest.raises(ValueError, match="a budget needs"):
        defaults.errors(**wrong)
