"""Paired comparison from sums: against scipy, row by row, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from flywheel.stats.estimate import Estimate, Inconclusive, holm
from flywheel.stats.paired import PairedSums, bootstrap_interval, flip_signs


def _scores(seed: int, n: int = 120, gain: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    champion = rng.beta(2, 1, n)
    return champion, np.clip(champion + rng.normal(gain, 0.15, n), 0, 1)


def test_equals_scipy_paired_t() -> None:
    """With one query a group, effect, p-values and interval are scipy's paired t-test's."""
    champion, challenger = _scores(1)
    found = PairedSums.of(champion, challenger).compare()
    assert isinstance(found, Estimate)
    theirs = stats.ttest_rel(challenger, champion)
    assert found.p_value() == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.p_gain() == pytest.approx(
        stats.ttest_rel(challenger, champion, alternative="greater").pvalue, rel=1e-9
    )
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)


def test_sums_merge() -> None:
    """Sums of two disjoint halves add up to the sums of the whole, so that a verdict needs no history."""
    champion, challenger = _scores(2)
    groups = np.arange(120) // 3
    halves = [PairedSums.of(champion[rows], challenger[rows], groups[rows]) for rows in (slice(60), slice(60, None))]
    whole = PairedSums.of(champion, challenger, groups)
    assert (halves[0] + halves[1]).as_dict() == pytest.approx(whole.as_dict(), rel=1e-12)


def test_unscored_queries_drop_out() -> None:
    """A query that has no score under either model changes nothing."""
    champion, challenger = _scores(3)
    nan = np.array([np.nan])
    assert PairedSums.of(np.append(champion, nan), np.append(challenger, nan)) == PairedSums.of(champion, challenger)


def test_grouping_keeps_the_error_rate() -> None:
    """Where users bring many alike queries, the grouped test errs at its level and the ungrouped one far above it."""
    rng = np.random.default_rng(4)
    wrong = np.zeros(2)
    for _ in range(600):
        sizes = 1 + rng.poisson(4, 60)
        users = np.repeat(np.arange(60), sizes)
        gain = rng.normal(0, 0.1, 60)[users] + rng.normal(0, 0.05, len(users))
        for way, groups in enumerate((users, None)):
            found = PairedSums.of(np.zeros(len(users)), gain, groups).compare()
            assert isinstance(found, Estimate)
            wrong[way] += found.p_gain() < 0.05
    grouped, ungrouped = wrong / 600
    assert 0.03 < grouped < 0.075
    assert ungrouped > 0.12


def test_one_group_is_no_answer() -> None:
    """A single group has no spread: the answer is a reason, not an effect of 0."""
    found = PairedSums.of(np.array([0.1, 0.2]), np.array([0.3, 0.1]), np.array([7, 7])).compare()
    assert isinstance(found, Inconclusive)
    assert "two" in found.reason


def test_no_difference_is_no_gain() -> None:
    """Two identical models have p = 1 for a gain and lose nothing."""
    champion, _ = _scores(5)
    found = PairedSums.of(champion, champion).compare()
    assert isinstance(found, Estimate)
    assert (found.p_gain(), found.p_loss(), found.p_value(), found.interval()) == (1.0, 1.0, 1.0, (0.0, 0.0))


def test_bootstrap_agrees_with_t() -> None:
    """On plain data the grouped bootstrap interval is the t interval, give or take its own noise."""
    champion, challenger = _scores(6, n=400)
    drawn = bootstrap_interval(champion, challenger, np.random.default_rng(0), samples=4_000)
    found = PairedSums.of(champion, challenger).compare()
    assert isinstance(found, Estimate)
    assert drawn == pytest.approx(found.interval(), abs=0.003)


def test_p_of_a_gain_is_near_that_of_sign_flips() -> None:
    """For a small gain the p-value is scipy's, when swapping the two models' names of a query changes nothing."""
    champion, challenger = _scores(7, gain=0.02)
    found = PairedSums.of(champion, challenger).compare()
    assert isinstance(found, Estimate)
    theirs = stats.permutation_test(
        (challenger - champion,), np.sum, permutation_type="samples", alternative="greater", n_resamples=9_999, rng=0
    )
    assert found.p_gain() == pytest.approx(theirs.pvalue, abs=0.02)


def test_all_alike_is_no_certainty() -> None:
    """Queries that all move by the same amount have no spread: the p-value is the sign-flip test's, not 0."""
    found = PairedSums.of(np.zeros(5), np.full(5, 0.5)).compare()
    assert isinstance(found, Estimate)
    assert found.p_gain() == pytest.approx(2**-5)
    assert found.p_loss() == 1.0


def test_bootstrap_in_parts_is_the_bootstrap() -> None:
    """Many groups are drawn in parts, so that memory stays flat; the interval is still the t interval."""
    champion, challenger = _scores(8, n=30_000)
    drawn = bootstrap_interval(champion, challenger, np.random.default_rng(0), samples=500)
    found = PairedSums.of(champion, challenger).compare()
    assert isinstance(found, Estimate)
    assert drawn == pytest.approx(found.interval(), abs=3e-4)


def test_holm_by_hand() -> None:
    """Holm stops at the first p-value above its share, even where a later one would pass on its own."""
    assert holm({"a": 0.01, "b": 0.03, "c": 0.04}, 0.05) == {"a"}
    assert holm({"a": 0.01, "b": 0.02, "c": 0.04}, 0.05) == {"a", "b", "c"}
    assert holm({"a": 0.03, "b": 0.03}, 0.05) == set()


def _few(rng: np.random.Generator, n: int) -> np.ndarray:
    """Differences of nDCG that change nothing on average: six in ten are 0, the others a few steps of a discount."""
    steps = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.131, 0.369, 0.5, 0.069])
    return rng.choice(steps, n) * rng.choice((-1.0, 1.0), n)


@pytest.mark.parametrize("n", [8, 16])
def test_flips_equal_scipy(n: int) -> None:
    """With one query a group the exact p-value is scipy's permutation test of paired samples."""
    rng = np.random.default_rng(n)
    champion, challenger = rng.random(n), rng.random(n) + 0.1
    theirs = stats.permutation_test(
        (challenger, champion), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples",
        alternative="greater", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert flip_signs(champion, challenger, None, rng).p_gain == pytest.approx(theirs.pvalue, rel=1e-12)


def test_flips_with_many_ties_keep_their_level() -> None:
    """Of 3,000 challengers that change nothing, judged on 15 to 49 queries most of which tie, 5 % at most gain."""
    rng = np.random.default_rng(1)
    trials = [_few(rng, int(rng.integers(15, 50))) for _ in range(3_000)]
    found = np.mean([flip_signs(np.zeros(len(d)), d, None, rng).p_gain <= 0.05 for d in trials])
    assert found <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 3_000)
    assert found > 0.02  # it is exact, not only safe


def test_drawn_flips_agree_with_counted_ones() -> None:
    """Above 40 groups that moved the signs are drawn; the p-value is that of the counted ones and never 0."""
    rng = np.random.default_rng(2)
    moved = rng.normal(0.05, 0.3, 40)
    counted = flip_signs(np.zeros(40), moved, None, rng)
    drawn = flip_signs(np.zeros(42), np.append(moved, [1e-9, 1e-9]), None, rng)
    assert (counted.moved, drawn.moved) == (40, 42)
    assert drawn.p_gain == pytest.approx(counted.p_gain, abs=0.006)
    assert flip_signs(np.zeros(60), np.ones(60), None, rng).p_gain == pytest.approx(1e-5)


def test_flips_move_groups_whole() -> None:
    """A query that stands in two sets is one vote: two of the same query are one flip, and ties are none."""
    challenger, groups = np.array([0.2, 0.2, 0.3, 0.0]), np.array([0, 0, 1, 2])
    found = flip_signs(np.zeros(4), challenger, groups, np.random.default_rng(0))
    assert (found.moved, found.p_gain, found.least) == (2, 0.25, 0.25)
    none = flip_signs(np.zeros(3), np.zeros(3), None, np.random.default_rng(0))
    assert (none.moved, none.p_gain) == (0, 1.0)
