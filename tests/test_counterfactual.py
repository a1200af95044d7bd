"""Off-policy estimates: against obp, coverage by simulation, refusal without support."""

import numpy as np
import pytest
from obp.ope import DoublyRobust, SelfNormalizedInverseProbabilityWeighting  # type: ignore[import-untyped]

from flywheel.counterfactual import OffPolicy, Slots, WeightedSums, doubly_robust, item_position
from flywheel.significance.estimate import Estimate, Inconclusive


def _log(seed: int, n: int = 5_000, actions: int = 6, rate: float = 0.02) -> tuple[np.ndarray, ...]:
    """Rewards, propensities under both policies, actions, the target policy and the true rates."""
    rng = np.random.default_rng(seed)
    logging, target = rng.dirichlet(np.full(actions, 5.0)), rng.dirichlet(np.full(actions, 3.0))
    rates = rng.uniform(0.5, 1.5, actions) * rate
    action = rng.choice(actions, n, p=logging)
    reward = (rng.random(n) < rates[action]).astype(float)
    return reward, logging[action], target[action], action, target, rates


def test_equals_obp() -> None:
    """SNIPS and doubly robust values are the Open Bandit Pipeline's."""
    reward, logged, aimed, action, target, _ = _log(0)
    position = np.zeros(len(reward), dtype=int)
    dist = np.tile(target[None, :, None], (len(reward), 1, 1))
    found = WeightedSums.of(reward, logged, aimed).snips(min_coverage=0.0)
    assert isinstance(found, OffPolicy)
    kind = {"reward": reward, "action": action, "position": position, "action_dist": dist, "pscore": logged}
    theirs = SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**kind)
    assert found.value == pytest.approx(theirs, rel=1e-9)
    guess = np.linspace(0.01, 0.03, 6)
    model = np.tile(guess[None, :, None], (len(reward), 1, 1))
    ours = doubly_robust(reward, aimed / logged, guess[action], np.full(len(reward), guess @ target))
    theirs = DoublyRobust().estimate_policy_value(**kind, estimated_rewards_by_reg_model=model)
    assert isinstance(ours, Estimate)
    assert ours.effect == pytest.approx(theirs, rel=1e-9)


def test_intervals_cover_the_truth() -> None:
    """With 100 rare clicks a log, the interval holds the true value in about 95 of 100 logs."""
    inside = []
    for seed in range(400):
        reward, logged, aimed, _, target, rates = _log(seed)
        found = WeightedSums.of(reward, logged, aimed).snips()
        if isinstance(found, OffPolicy):
            inside.append(found.low <= rates @ target <= found.high)
    assert len(inside) > 300
    assert 0.92 < np.mean(inside) < 0.985


def test_users_widen_the_interval() -> None:
    """Records of one user are not independent: grouping them widens the interval, and leaves the value."""
    reward, logged, aimed, *_ = _log(1)
    reward, logged, aimed = (np.repeat(column, 5) for column in (reward, logged, aimed))
    alone, grouped = (WeightedSums.of(reward, logged, aimed, g).snips() for g in (None, np.arange(len(reward)) // 5))
    assert isinstance(alone, OffPolicy)
    assert isinstance(grouped, OffPolicy)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low > 1.8 * (alone.high - alone.low)


def test_outside_the_support_it_refuses() -> None:
    """One huge weight, or a target that the log never shows, gives a reason instead of a value."""
    n = 2_000
    logged, aimed = np.full(n, 0.9), np.full(n, 0.9)
    logged[0], aimed[0] = 1e-5, 0.9
    huge = WeightedSums.of(np.ones(n), logged, aimed).snips()
    missing = WeightedSums.of(np.ones(n), np.full(n, 0.5), np.full(n, 0.2)).snips()
    assert isinstance(huge, Inconclusive)
    assert "effective sample size" in huge.reason
    assert isinstance(missing, Inconclusive)
    assert "covers 40%" in missing.reason
    assert isinstance(doubly_robust(np.ones(n), aimed / logged, np.ones(n), np.ones(n)), Inconclusive)


def test_sums_merge() -> None:
    """Sums of disjoint users add up to those of all."""
    reward, logged, aimed, *_ = _log(2)
    parts = [WeightedSums.of(reward[s], logged[s], aimed[s]) for s in (slice(999), slice(999, None))]
    assert (parts[0] + parts[1]).as_dict() == pytest.approx(WeightedSums.of(reward, logged, aimed).as_dict())


def test_wrong_propensities_are_refused() -> None:
    """A propensity of 0 for something that was shown is an error in the log, not a weight."""
    with pytest.raises(ValueError, match="propensities"):
        WeightedSums.of(np.ones(2), np.array([0.0, 0.5]), np.ones(2))


def _slots(seed: int, support: float) -> tuple[Slots, float]:
    rng = np.random.default_rng(seed)
    pages, k = 400, 5
    relevance = rng.beta(1, 2, (pages, k)) / np.arange(1, k + 1)
    impressions = np.where(rng.random((pages, k)) < support, rng.integers(20, 60, (pages, k)), 0)
    clicks = rng.binomial(impressions, relevance).astype(float)
    page = np.repeat(np.arange(pages), k)
    guess = np.clip(relevance * rng.uniform(0.7, 1.3, relevance.shape), 0, 1)
    slots = Slots(page, page // 2, clicks.ravel(), impressions.ravel().astype(float), guess.ravel())
    return slots, float(relevance.sum() / pages)


def test_item_position_finds_the_value() -> None:
    """Clicks per page of a ranking are found from the rates of its documents at their ranks."""
    inside = 0
    for seed in range(100):
        slots, truth = _slots(seed, 0.95)
        found = item_position(slots)
        assert isinstance(found, OffPolicy)
        inside += found.low <= truth <= found.high
    assert inside >= 92


def test_item_position_refuses_unseen_rankings() -> None:
    """A ranking that the log shows in half of its slots has no estimate."""
    found = item_position(_slots(0, 0.5)[0])
    assert isinstance(found, Inconclusive)
    assert "covers" in found.reason
