"""Two arms from sums over users: against gbstats, and by simulation with heavy-tailed users."""

import numpy as np
import pytest
from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest  # type: ignore[import-untyped]
from gbstats.models.statistics import (  # type: ignore[import-untyped]
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    compute_theta,
)
from scipy import stats

from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.ratio import ArmSums, compare, log_ratio


def _arm(
    seed: int, users: int = 3_000, gain: float = 0.0, tail: float = 1.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, pages and what was before, for users with a heavy tail of activity and a rate of their own."""
    rng = np.random.default_rng(seed)
    pages = 1.0 + np.floor(rng.pareto(tail, users).clip(max=200))
    rate = rng.beta(0.5, 1.25, users) * (1 + gain)
    clicks = rng.binomial(pages.astype(int), rate.clip(max=1)).astype(float)
    return clicks, pages, rng.binomial(50, rate.clip(max=1)).astype(float)


def _theirs(sums: ArmSums) -> RatioStatistic:
    return RatioStatistic(
        n=sums.users,
        m_statistic=SampleMeanStatistic(n=sums.users, sum=sums.value, sum_squares=sums.value_squared),
        d_statistic=SampleMeanStatistic(n=sums.users, sum=sums.pages, sum_squares=sums.pages_squared),
        m_d_sum_of_products=sums.value_pages,
    )


@pytest.mark.parametrize("relative", [True, False])
def test_ratio_equals_gbstats(relative: bool) -> None:
    """Effect, interval and p-value of clicks per page are gbstats', relative and absolute."""
    arms = [ArmSums.of(*_arm(seed)[:2]) for seed in (1, 2)]
    found = compare(*arms, relative=relative)
    assert isinstance(found, Estimate)
    config = FrequentistConfig(difference_type="relative" if relative else "absolute")
    theirs = TwoSidedTTest(_theirs(arms[0]), _theirs(arms[1]), config).compute_result()
    assert found.effect == pytest.approx(theirs.expected, rel=1e-9)
    assert found.interval() == pytest.approx(tuple(theirs.ci), rel=1e-6)
    assert found.p_value() == pytest.approx(theirs.p_value, rel=1e-6)


def test_cuped_equals_gbstats() -> None:
    """With one page a user, the adjusted effect and its error are gbstats' regression-adjusted ones."""
    clicks = [_arm(seed) for seed in (3, 4)]
    arms = [ArmSums.of(value, before=before) for value, _, before in clicks]

    def stat(a: ArmSums, theta: float) -> RegressionAdjustedStatistic:
        post = SampleMeanStatistic(n=a.users, sum=a.value, sum_squares=a.value_squared)
        pre = SampleMeanStatistic(n=a.users, sum=a.before, sum_squares=a.before_squared)
        return RegressionAdjustedStatistic(
            n=a.users, post_statistic=post, pre_statistic=pre, post_pre_sum_of_products=a.value_before, theta=theta
        )

    theta = compute_theta(stat(arms[0], 0), stat(arms[1], 0))
    theirs = TwoSidedTTest(stat(arms[0], theta), stat(arms[1], theta), FrequentistConfig()).compute_result()
    found = compare(*arms)
    assert isinstance(found, Estimate)
    assert found.effect == pytest.approx(theirs.expected, rel=1e-9)
    assert found.interval() == pytest.approx(tuple(theirs.ci), rel=1e-6)


def test_cuped_narrows_ratios() -> None:
    """What users did before explains part of the spread of a ratio too, and the estimate stays near."""
    plain, adjusted = (
        compare(*(ArmSums.of(v, p, b if use else None) for v, p, b in (_arm(5, tail=4), _arm(6, gain=0.1, tail=4))))
        for use in (False, True)
    )
    assert isinstance(plain, Estimate)
    assert isinstance(adjusted, Estimate)
    assert adjusted.standard_error < 0.95 * plain.standard_error
    assert abs(adjusted.effect - plain.effect) < 3 * plain.standard_error


@pytest.mark.parametrize("cuped", [False, True])
def test_coverage_with_heavy_tails(cuped: bool) -> None:
    """The 95 % interval covers no difference in about 95 % of heavy-tailed A/A tests; a per-page z-test far fewer."""
    inside = pages_inside = 0
    for seed in range(400):
        rows = [_arm(2 * seed + side + 100, users=1_000) for side in (0, 1)]
        arms = [ArmSums.of(v, p, b if cuped else None) for v, p, b in rows]
        found = compare(*arms)
        assert isinstance(found, Estimate)
        low, high = found.interval()
        inside += low <= 0 <= high
        rates = [arm.ratio for arm in arms]
        naive = np.sqrt(sum(r * (1 - r) / arm.pages for r, arm in zip(rates, arms, strict=True)))
        pages_inside += abs(rates[1] - rates[0]) < 1.96 * naive
    assert 0.92 < inside / 400 < 0.98
    assert pages_inside / 400 < 0.85


@pytest.mark.parametrize(
    ("rate", "users", "whale"), [(0.01, (400, 400), 0), (0.02, (3_000, 300), 0), (0.25, (1_000, 1_000), 4_000)]
)
def test_cautious_error_keeps_the_level(rate: float, users: tuple[int, int], whale: int) -> None:
    """With rare clicks, a small arm or one user of enormous activity the plain error finds differences too often, the
    cautious one and the log of the ratio do not."""
    wrong = np.zeros((3, 2))
    for run in range(600):
        rng = np.random.default_rng([11, run])
        arms = []
        for size in users:
            pages = 1.0 + np.floor(rng.pareto(1.6, size).clip(max=40))
            pages[0] += whale * (size == users[run % 2] and len(arms) == run % 2)
            own = rng.beta(2 * rate, 2 * (1 - rate), size)
            arms.append(ArmSums.of(rng.binomial(pages.astype(int), own).astype(float), pages))
        answers = compare(*arms), compare(*arms, cautious=True), log_ratio(*arms)
        for way, found in enumerate(answers):
            if isinstance(found, Estimate):
                wrong[way] += found.p_gain() < 0.05, found.p_loss() < 0.05
    assert (wrong[0] / 600).max() > 0.08
    assert (wrong[1:] / 600).max() < 0.05 + 3 * 0.009


def test_log_ratio_is_scipys_relative_risk() -> None:
    """With one page a user the log of the ratio and its interval are scipy's relative risk (Katz), to first order."""
    clicked = np.concatenate([np.ones(60), np.zeros(2_940)]), np.concatenate([np.ones(90), np.zeros(2_910)])
    found = log_ratio(*(ArmSums.of(column) for column in clicked))
    assert isinstance(found, Estimate)
    theirs = stats.contingency.relative_risk(90, 3_000, 60, 3_000)
    assert np.exp(found.effect) == pytest.approx(theirs.relative_risk)
    assert np.exp(found.interval()) == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=0.01)


def test_log_ratio_knows_no_side() -> None:
    """A gain of the one arm is exactly the loss of the other, also where one has no click at all."""
    some, none = ArmSums.of((np.arange(900) % 30 == 0).astype(float)), ArmSums.of(np.zeros(900))
    other = ArmSums.of((np.arange(900) % 20 == 0).astype(float))
    for first, second in ((some, other), (some, none)):
        there, back = log_ratio(first, second), log_ratio(second, first)
        assert isinstance(there, Estimate)
        assert isinstance(back, Estimate)
        assert (there.effect, there.standard_error) == pytest.approx((-back.effect, back.standard_error))
    empty = log_ratio(some, none)
    assert isinstance(empty, Estimate)
    assert -7 < empty.effect / empty.standard_error < -5
    assert isinstance(log_ratio(none, none), Inconclusive)


def test_log_ratio_takes_cuped() -> None:
    """What was before narrows the log of the ratio as it narrows the ratio."""
    rows = [_arm(5, tail=4), _arm(6, gain=0.1, tail=4)]
    plain, adjusted = (log_ratio(*(ArmSums.of(v, p, b if use else None) for v, p, b in rows)) for use in (False, True))
    assert isinstance(plain, Estimate)
    assert isinstance(adjusted, Estimate)
    assert adjusted.standard_error < 0.95 * plain.standard_error
    assert abs(adjusted.effect - plain.effect) < 3 * plain.standard_error


def test_cautious_is_never_surer() -> None:
    """The cautious error is at least the plain one, around the same effect, and the same where arms are alike."""
    arms = [ArmSums.of(*_arm(seed)[:2]) for seed in (1, 2)]
    plain, cautious = (compare(*arms, cautious=way) for way in (False, True))
    assert isinstance(plain, Estimate)
    assert isinstance(cautious, Estimate)
    assert cautious.effect == plain.effect
    assert plain.standard_error <= cautious.standard_error < 1.1 * plain.standard_error


def test_cuped_ratio_equals_its_rows() -> None:
    """A ratio's adjusted effect and error from sums are those of numpy's regression on the linearised rows, with what
    was clicked before beyond the expected as covariate."""
    rows = []
    for seed in (21, 22):
        rng = np.random.default_rng(seed)
        own, pages, earlier = rng.beta(1, 3, 5_000), 1.0 + rng.poisson(4, 5_000), rng.poisson(3, 5_000)
        clicks = rng.binomial(pages.astype(int), own).astype(float)
        rows.append((clicks, pages, rng.binomial(earlier, own) - 0.25 * earlier))
    y, x, z = (np.concatenate(column) for column in zip(*rows, strict=True))
    theta = np.polyfit(z, (y - y.sum() / x.sum() * x) / x.mean(), 1)[0]
    ratios = [a.sum() / b.sum() for a, b, _ in rows]
    left = [(a - r * b) / b.mean() - theta * c for (a, b, c), r in zip(rows, ratios, strict=True)]
    errors = [column.var(ddof=1) / len(column) for column in left]
    found = compare(*(ArmSums.of(*row) for row in rows), relative=False)
    assert isinstance(found, Estimate)
    assert found.effect == pytest.approx(
        ratios[1] - ratios[0] - theta * (rows[1][2].mean() - rows[0][2].mean()), rel=1e-9
    )
    assert found.standard_error == pytest.approx(np.sqrt(sum(errors)), rel=1e-9)


def test_scaled_arm_is_the_arm_of_scaled_values() -> None:
    """Scaling the sums is scaling each value, covariate or not; without `before` the covariate is gone."""
    clicks, pages, before = _arm(9)
    arm = ArmSums.of(clicks, pages, before)
    assert arm.scaled(1.1).as_dict() == pytest.approx(ArmSums.of(clicks * 1.1, pages, before).as_dict())
    assert arm.without_before() == ArmSums.of(clicks, pages)


def test_sums_merge() -> None:
    """Sums of disjoint users add up to the sums of all, and survive the way through a dictionary."""
    clicks, pages, before = _arm(7)
    parts = [ArmSums.of(clicks[s], pages[s], before[s]) for s in (slice(1_000), slice(1_000, None))]
    whole = ArmSums.of(clicks, pages, before)
    assert (parts[0] + parts[1]).as_dict() == pytest.approx(whole.as_dict())
    assert ArmSums.from_dict(whole.as_dict()) == whole


@pytest.mark.parametrize(
    ("champion", "words"),
    [
        (ArmSums(), "0 and 3000 users"),
        (ArmSums(users=5), "no pages"),
        (ArmSums.of(np.zeros(5)), "relative"),
        (ArmSums.of(np.ones(5)), "does not vary"),
    ],
)
def test_no_answer_says_why(champion: ArmSums, words: str) -> None:
    """Where nothing can be said the answer is a reason, not an effect of 0."""
    challenger = champion if words == "does not vary" else ArmSums.of(*_arm(8)[:2])
    found = compare(champion, challenger)
    assert isinstance(found, Inconclusive)
    assert words in found.reason
