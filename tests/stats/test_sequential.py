"""Looking every day: e-values, confidence sequences, group-sequential bounds, planning."""

import math

import numpy as np
import pytest
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest  # type: ignore[import-untyped]
from gbstats.models.statistics import SampleMeanStatistic  # type: ignore[import-untyped]
from scipy import integrate, stats

from benchmarks.references import ONE_SCALE, expected_for
from flywheel.stats.estimate import Estimate
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.looks import Look, bound, bounds, due
from flywheel.stats.paired import PairedSums
from flywheel.stats.power import judged_queries, preferring_users, smallest_gain, spread_limit, users_per_arm
from flywheel.stats.ratio import ArmSums, compare, log_ratio
from flywheel.stats.sequential import (
    SCALES,
    e_gain,
    e_loss,
    sequence,
    z_to_win,
)


def test_sequence_equals_gbstats() -> None:
    """The interval is that of gbstats' sequential test, once both are tuned to the same number of users."""
    rng = np.random.default_rng(0)
    arms = [ArmSums.of(rng.exponential(1.0, 4_000)), ArmSums.of(rng.exponential(1.04, 4_000))]
    found = compare(*arms)
    assert isinstance(found, Estimate)
    theirs = SequentialTwoSidedTTest(
        *(SampleMeanStatistic(n=a.users, sum=a.value, sum_squares=a.value_squared) for a in arms),
        SequentialConfig(difference_type="relative", sequential_tuning_parameter=5_000),
    )
    expected = expected_for(5_000, found.standard_error * math.sqrt(8_000))
    ours = sequence(found, expected=expected, scales=ONE_SCALE)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


@pytest.mark.parametrize("z", [-3.0, 0.0, 2.5, 5.0])
def test_e_value_is_its_integral(z: float) -> None:
    """The closed form of the one-sided mixture equals the integral of likelihood ratios that it stands for."""
    error, expected = 0.02, 0.03

    def ratio(effect: float) -> float:
        prior = sum(2 * weight * stats.norm.pdf(effect, 0, expected * scale) for scale, weight in SCALES)
        return prior * math.exp(z * effect / error - effect**2 / (2 * error**2))

    area, _ = integrate.quad(ratio, 0, 0.4, limit=200)
    assert e_gain(Estimate(z * error, error), expected=expected) == pytest.approx(area, rel=1e-6)


def test_daily_looks_keep_the_level() -> None:
    """Sixty looks at growing data with no effect cross 1/alpha in at most alpha of runs; a fixed test in far more."""
    rng = np.random.default_rng(1)
    paths = rng.normal(0, 1, (4_000, 60)).cumsum(axis=1)
    information = np.arange(1, 61)
    ever = fixed = 0
    for path in paths[:1_500]:
        looks = [Estimate(s / n * 0.1, 0.1 / math.sqrt(n)) for s, n in zip(path, information, strict=True)]
        ever += any(e_gain(look, expected=0.03) >= 20 for look in looks)
        fixed += any(look.p_gain() <= 0.05 for look in looks)
    assert ever / 1_500 <= 0.05 + 2 * 0.0056
    assert fixed / 1_500 > 0.15


@pytest.mark.parametrize("degrees", [3.0, 30.0, math.inf])
def test_sequence_contains_the_fixed_interval(degrees: float) -> None:
    """Whatever it was tuned for, the sequence is never narrower than the interval of one planned look."""
    for expected in (1e-4, 0.01, 0.3, 100.0):
        found = Estimate(0.01, 0.02, degrees)
        low, high = sequence(found, expected=expected)
        assert low <= found.interval()[0] < found.interval()[1] <= high


def test_a_gain_is_sure_before_the_sequence_says_so() -> None:
    """The sequence is symmetric and two-sided, so that its end lies further out than the z-value of a sure gain."""
    for error in (1e-9, 0.002, 0.03, 0.4, 1e6):
        low, high = sequence(Estimate(0.0, error), expected=0.03)
        assert low == -high
        assert z_to_win(error, expected=0.03, alpha=0.05) < high / error


def test_large_effects_need_few_people() -> None:
    """An effect of a third is found at 4 standard errors though 3 % were expected; one scale alone never would."""
    headline = Estimate(0.36, 0.09)
    assert e_gain(headline, expected=0.03) > 20
    assert e_gain(headline, expected=0.03, scales=ONE_SCALE) < 5
    tuned = Estimate(0.03, 0.0075)
    assert e_gain(tuned, expected=0.03) > 0.6 * e_gain(tuned, expected=0.03, scales=ONE_SCALE)


def test_loss_mirrors_gain() -> None:
    """A loss is as much evidence as the gain of the same size, and nothing is said where nothing varies."""
    assert e_loss(Estimate(-0.05, 0.02), expected=0.03) == e_gain(Estimate(0.05, 0.02), expected=0.03) > 1
    assert e_gain(Estimate(0.0, 0.0), expected=0.03) == 1.0


def test_bounds_equal_published() -> None:
    """Five equal looks at one-sided 0.025 have the O'Brien-Fleming-like bounds that textbooks print."""
    found = bounds([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)
    assert found == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.003)
    assert bounds([1.0], 0.05) == pytest.approx([1.645], abs=1e-3)
    for early in (0.001, 0.05, 0.1):  # so early that nothing is spent: far out, and no later bound moves
        first, *rest = bounds([early, 0.5, 1.0], 0.006, time=[early, 0.5, 1.0])
        assert first > 8
        assert rest == pytest.approx(bounds([0.5, 1.0], 0.006), abs=1e-3)
    assert bounds([1.0], 0.006, time=[0.05])[0] >= 12


def test_bounds_keep_the_level() -> None:
    """Unequal looks cross their bounds by chance as often as asked."""
    shares = np.array([0.1, 0.5, 0.7, 1.0])
    rng = np.random.default_rng(2)
    steps = rng.normal(0, 1, (200_000, 4)) * np.sqrt(np.diff(shares, prepend=0))
    crossed = np.any(steps.cumsum(axis=1) / np.sqrt(shares) > bounds(list(shares), 0.05), axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.002)


def test_bounds_at_calendar_times_keep_the_level() -> None:
    """Where information does not come as planned, spending by the calendar still errs as often as asked."""
    information, times = np.array([2.0, 3.0, 40.0, 44.0]), [0.25, 0.5, 0.75, 1.0]
    rng = np.random.default_rng(3)
    steps = rng.normal(0, 1, (200_000, 4)) * np.sqrt(np.diff(information, prepend=0))
    found = bounds(list(information), 0.05, time=times)
    crossed = np.any(steps.cumsum(axis=1) / np.sqrt(information) > found, axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.002)
    assert bounds([0.5, 1.0], 0.05) == pytest.approx(bounds([10.0, 20.0], 0.05, time=[0.5, 1.0]))


def test_looks_come_once() -> None:
    """A planned look is due from its day on until it is taken, and the last one spends all that is left."""
    plan, taken = (0.25, 1.0), [Look(7.5, 100.0)]
    assert [due(plan, [], day, 28.0) for day in (3.0, 7.0, 9.0)] == [False, True, True]
    assert [due(plan, taken, day, 28.0) for day in (9.0, 27.0, 28.5)] == [False, False, True]
    assert bound([Look(30.0, 5.0)], 0.05, 28.0) == pytest.approx(1.645, abs=1e-3)
    assert bound([Look(27.0, 5.0), Look(28.0, 9.0)], 0.05, 28.0) > 1.66
    assert bound([Look(27.0, 5.0), Look(28.0, 5.0)], 0.05, 28.0) == pytest.approx(1.645, abs=0.02)


def test_bounds_refuse_nonsense() -> None:
    """Looks that do not rise, or go beyond the plan, are refused."""
    for wrong in ([], [0.5, 0.4], [0.0, 1.0]):
        with pytest.raises(ValueError, match="rising"):
            bounds(wrong, 0.05)
    for times in ([0.5, 1.2], [0.5, 0.5], [1.0]):
        with pytest.raises(ValueError, match="rising"):
            bounds([1.0, 2.0], 0.05, time=times)


def test_planned_users_find_the_effect() -> None:
    """As many users as the plan says, with their own clicks, reach the verdict's bound in about the share of runs that
    was asked."""
    rng = np.random.default_rng(3)

    def arm(users: int, gain: float = 0.0) -> ArmSums:
        pages = (1 + rng.poisson(3, users)).astype(float)
        rate = rng.beta(3, 7, users) * (1 + gain)
        return ArmSums.of(rng.binomial(pages.astype(int), rate.clip(max=1)).astype(float), pages)

    users = users_per_arm(arm(100_000), 0.05, alpha=0.02, power=0.8, expected=0.03)
    found = [log_ratio(arm(users), arm(users, 0.05)) for _ in range(300)]
    won = [isinstance(one, Estimate) and e_gain(one, expected=0.03) >= 50 for one in found]
    assert np.mean(won) == pytest.approx(0.8, abs=0.07)
    assert users_per_arm(arm(100_000), 0.05, alpha=0.02, watched=False) < users


def test_planned_preferences_are_found() -> None:
    """As many users with a preference as the plan says find it; one click each is the worst case that it takes."""
    rng = np.random.default_rng(4)
    users = preferring_users(0.06, alpha=0.02, expected=0.05)
    won = []
    for _ in range(300):
        ours = (rng.random(users) < 0.53).astype(float)
        found = PreferenceSums.of(1 - ours, ours).compare()
        won.append(isinstance(found, Estimate) and e_gain(found, expected=0.05) >= 50)
    assert np.mean(won) == pytest.approx(0.8, abs=0.07)


def test_planned_queries_find_the_gain() -> None:
    """As many judged queries as the plan says pass the gate's own test for a point in about 80 % of runs, and the
    smallest gain that they find is that point."""
    rng = np.random.default_rng(5)
    queries = judged_queries(0.16, 0.01, alpha=0.0113)
    found = [PairedSums.of(np.zeros(queries), rng.normal(0.01, 0.16, queries)).compare() for _ in range(400)]
    assert np.mean([isinstance(one, Estimate) and one.p_gain() <= 0.0113 for one in found]) == pytest.approx(
        0.8, abs=0.06
    )
    assert smallest_gain(0.16, queries, alpha=0.0113) == pytest.approx(0.01, rel=0.01)


def test_planned_queries() -> None:
    """Judged queries for a gain of 3 points at a spread of 0.18 a query, as the textbook formula has it."""
    assert judged_queries(0.18, 0.03, alpha=0.05, power=0.8) == 223


def test_z_to_win_is_the_boundary() -> None:
    """A gain of just so many standard errors reaches 1/alpha."""
    z = z_to_win(0.01, expected=0.03, alpha=0.01)
    assert e_gain(Estimate(z * 0.01, 0.01), expected=0.03) == pytest.approx(100, rel=1e-6)


def test_spread_limit_is_above_the_truth_in_four_of_five_pilots() -> None:
    """The limit from 23 normal differences covers the true spread in 80 % of pilots; it is scipy's limit."""
    rng = np.random.default_rng(12)
    seen = rng.normal(0, 0.16, (4_000, 23)).std(axis=1, ddof=1)
    assert np.mean([spread_limit(float(sd), 22) > 0.16 for sd in seen]) == pytest.approx(0.8, abs=0.02)
    assert spread_limit(0.1, 22) == pytest.approx(0.1 * np.sqrt(22 / stats.chi2.ppf(0.2, 22)))
