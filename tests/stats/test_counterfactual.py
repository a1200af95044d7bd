"""Off-policy estimates: against obp, coverage by simulation, refusal without support."""

from collections.abc import Callable

import numpy as np
import pytest
from obp.ope import (  # type: ignore[import-untyped]
    DoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SlateIndependentIPS,
)

from flywheel.gates.shadow import MIN_COVERAGE, MIN_EFFECTIVE
from flywheel.stats.counterfactual import Contrast, RankWeights, robust, self_normalised
from flywheel.stats.estimate import Estimate, Inconclusive

LEAST = {"min_effective": MIN_EFFECTIVE, "min_coverage": MIN_COVERAGE}


def _log(seed: int, n: int = 5_000, actions: int = 6, rate: float = 0.02) -> tuple[np.ndarray, ...]:
    """Rewards, propensities under both policies, actions and the target policy, of pages with one place."""
    rng = np.random.default_rng(seed)
    logging, target = rng.dirichlet(np.full(actions, 5.0)), rng.dirichlet(np.full(actions, 3.0))
    rates = rng.uniform(0.5, 1.5, actions) * rate
    action = rng.choice(actions, n, p=logging)
    reward = (rng.random(n) < rates[action]).astype(float)
    return reward, logging[action], target[action], action, target


def _one_place(
    reward: np.ndarray, weight: np.ndarray, shown: np.ndarray | float = 0.0, aimed: np.ndarray | float = 0.0
) -> RankWeights:
    """A policy's sums where every page is a group of its own, with what a model predicts of `shown` and `aimed`."""
    columns = (weight, weight**2, weight * reward, aimed + weight * (reward - shown))
    return RankWeights(*(column[:, None] for column in columns))


def _value(found: Contrast | Inconclusive) -> float:
    """The challenger's clicks per page."""
    assert isinstance(found, Contrast)
    return found.sums.challenger / found.sums.queries


def test_one_place_equals_obp() -> None:
    """SNIPS and doubly robust values are the Open Bandit Pipeline's, the effective size Kish's."""
    reward, logged, aimed, action, target = _log(0)
    pages = np.ones((len(reward), 1))
    dist = np.tile(target[None, :, None], (len(reward), 1, 1))
    kind = {"reward": reward, "action": action, "position": np.zeros(len(reward), dtype=int), "pscore": logged}
    weight, guess = aimed / logged, np.linspace(0.01, 0.03, 6)
    arm = _one_place(reward, weight, guess[action], np.full(len(reward), guess @ target))
    theirs = SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**kind, action_dist=dist)
    assert _value(self_normalised(pages, arm, arm)) == pytest.approx(theirs, rel=1e-9)
    model = np.tile(guess[None, :, None], (len(reward), 1, 1))
    theirs = DoublyRobust().estimate_policy_value(**kind, action_dist=dist, estimated_rewards_by_reg_model=model)
    found = robust(pages, arm, arm)
    assert _value(found) == pytest.approx(theirs, rel=1e-9)
    assert isinstance(found, Contrast)
    assert found.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_users_widen_the_interval() -> None:
    """Pages of one user are not independent: summed by user, the interval is wider, and the value the same."""
    reward, logged, aimed, *_ = _log(1)
    plain, target = _one_place(reward, np.ones(len(reward))), _one_place(reward, aimed / logged)
    alone = self_normalised(np.ones((len(reward), 1)), plain, target)
    # everybody asks five times and does the same
    alike = [
        RankWeights(*(5 * getattr(arm, name) for name in RankWeights.__dataclass_fields__)) for arm in (plain, target)
    ]
    repeated = [
        RankWeights(*(np.repeat(getattr(arm, name), 5, axis=0) for name in RankWeights.__dataclass_fields__))
        for arm in (plain, target)
    ]
    apart = self_normalised(np.ones((5 * len(reward), 1)), *repeated)
    grouped = self_normalised(np.full((len(reward), 1), 5.0), *alike)
    assert _value(alone) == pytest.approx(_value(apart)) == pytest.approx(_value(grouped))
    errors = [answer.estimate(**LEAST).standard_error for answer in (apart, grouped)]  # type: ignore[union-attr]
    assert errors[1] > 1.8 * errors[0]


def test_outside_the_support_it_refuses() -> None:
    """One huge weight, weights that are no number, or a target that the log hardly shows: a reason, and no value."""
    pages, plain = np.ones((2_000, 1)), _one_place(np.ones(2_000), np.ones(2_000))
    weight = np.ones(2_000)
    weight[0] = 9e4
    broken = weight.copy()
    broken[0] = np.nan
    for estimator in (self_normalised, robust):
        for weights, reason in (
            (weight, "effective sample size"),
            (broken, "effective"),
            (pages[:, 0] * 0.4, "covers 40%"),
        ):
            contrast = estimator(pages, plain, _one_place(np.ones(2_000), weights))
            assert isinstance(contrast, Contrast)
            found = contrast.estimate(**LEAST)
            assert isinstance(found, Inconclusive)
            assert reason in found.reason


def _logged(seed: int, ranks: int = 3, groups: int = 60) -> tuple[np.ndarray, RankWeights, RankWeights, float]:
    """Slots by group of users under a random policy, with both arms' sums and the true difference of clicks a page."""
    rng = np.random.default_rng(seed)
    pages, actions = 3_000, 4
    policy = rng.dirichlet(np.full(actions, 8.0), ranks)
    rate = rng.uniform(0.02, 0.3, (ranks, actions)) / np.arange(1, ranks + 1)[:, None]
    aimed = rng.integers(0, actions, (2, ranks))
    group = rng.integers(0, groups, pages)
    shown = np.stack([rng.choice(actions, pages, p=policy[rank]) for rank in range(ranks)], axis=1)
    mood = rng.lognormal(0, 0.3, groups)
    mood /= mood.mean()
    place = np.arange(ranks)
    reward = (rng.random(shown.shape) < rate[place, shown] * mood[group][:, None]).astype(float)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(group, values[:, rank], groups) for rank in range(ranks)], axis=1)

    arms = []
    for target in aimed:
        weight = (shown == target) / policy[place, shown]
        guess = np.full(shown.shape, 0.1)
        columns = (weight, weight**2, weight * reward, guess + weight * (reward - guess))
        arms.append(RankWeights(*(summed(column) for column in columns)))
    truth = float((rate[place, aimed[1]] - rate[place, aimed[0]]).sum())
    return summed(np.ones(shown.shape)), arms[0], arms[1], truth


@pytest.mark.parametrize("estimator", [self_normalised, robust])
def test_differences_by_rank_cover_the_truth(estimator: Callable[..., Contrast | Inconclusive]) -> None:
    """Over 300 logs with users of unlike mood, the 95 % interval of the difference holds it about as often."""
    inside = []
    for seed in range(300):
        *log, truth = _logged(seed)
        contrast = estimator(*log)
        assert isinstance(contrast, Contrast)
        found = contrast.estimate(**LEAST)
        assert isinstance(found, Estimate)
        low, high = found.interval()
        inside.append(low <= truth <= high)
    assert 0.92 < np.mean(inside) < 0.98


def test_slots_equal_obp() -> None:
    """Without predictions, the doubly robust sum over slots is obp's independent IPS of slates."""
    rng = np.random.default_rng(0)
    pages, ranks = 500, 3
    propensity = rng.uniform(0.2, 1, (pages, ranks))
    aimed, reward = (rng.random((pages, ranks)) < share for share in (0.5, 0.2))
    weight = aimed / propensity
    arm = RankWeights(weight, weight**2, weight * reward, weight * reward)
    found = robust(np.ones((pages, ranks)), arm, arm)
    theirs = SlateIndependentIPS(len_list=ranks).estimate_policy_value(
        slate_id=np.repeat(np.arange(pages), ranks),
        position=np.tile(np.arange(ranks), pages),
        reward=reward.ravel().astype(float),
        pscore_item_position=propensity.ravel(),
        evaluation_policy_pscore_item_position=aimed.ravel().astype(float),
    )
    assert isinstance(found, Contrast)
    assert found.sums.challenger / found.sums.queries == pytest.approx(theirs)


def test_a_rank_without_support_is_refused() -> None:
    """A rank at which the log never shows what would be shown there is not filled from the others."""
    slots, ours, theirs, _ = _logged(0)
    hole = np.ones(slots.shape)
    hole[:, 2] = 0
    theirs = RankWeights(*(getattr(theirs, name) * hole for name in RankWeights.__dataclass_fields__))
    found = self_normalised(slots, ours, theirs)
    assert isinstance(found, Inconclusive)
    assert "rank 3" in found.reason
    thin = robust(slots, ours, theirs)
    assert isinstance(thin, Contrast)
    assert isinstance(thin.estimate(**LEAST), Inconclusive)
