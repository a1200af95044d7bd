"""Off-policy estimates: against obp, coverage by simulation, refusal without support."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from obp.ope import (  # type: ignore[import-untyped]
    DoublyRobust,
    SelfNormalizedInverseProbabilityWeighting,
    SlateIndependentIPS,
)

from flywheel.stats.counterfactual import (
    Contrast,
    OffPolicy,
    RankWeights,
    Slots,
    WeightedSums,
    doubly_robust,
    item_position,
    robust,
    self_normalised,
)
from flywheel.stats.estimate import Estimate, Inconclusive


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


@pytest.mark.parametrize(
    ("reward", "logged", "aimed"),
    [
        (1.0, 0.0, 1.0), (1.0, 1.2, 1.0), (1.0, np.nan, 1.0), (1.0, 0.5, np.nan), (1.0, 0.5, 3.0), (1.0, 0.5, -0.1),
        (np.nan, 0.5, 1.0), (np.inf, 0.5, 1.0), (-1.0, 0.5, 1.0),
    ],
)  # fmt: skip
def test_what_is_no_propensity_and_no_reward_is_refused(reward: float, logged: float, aimed: float) -> None:
    """A propensity of 0 for something that was shown is an error in the log, not a weight; so is what is no number."""
    columns = [np.array([value, 0.5]) for value in (reward, logged, aimed)]
    with pytest.raises(ValueError, match="propensities"):
        WeightedSums.of(*columns)


def test_weights_too_large_for_an_effective_size_are_refused() -> None:
    """A propensity so small that its weight is no number leaves no estimate."""
    logged = np.full(500, 0.5)
    logged[0] = 1e-320
    assert isinstance(WeightedSums.of(np.ones(500), logged, logged * 0 + 0.5).snips(), Inconclusive)
    broken = np.ones(500)
    broken[0] = np.nan
    assert isinstance(doubly_robust(np.ones(500), broken, np.ones(500), np.ones(500)), Inconclusive)
    with pytest.raises(ValueError, match="numbers"):
        doubly_robust(broken, np.ones(500), np.ones(500), np.ones(500))


def test_more_clicks_than_impressions_are_refused() -> None:
    """Counts that cannot be are an error that says so."""
    slots, _ = _slots(0, 1.0)
    with pytest.raises(ValueError, match="between 0 and impressions"):
        item_position(replace(slots, clicks=slots.impressions + 1))


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


def test_repeated_pages_share_the_error_of_their_cell() -> None:
    """A page that is asked for ten times brings no more knowledge of its rates: the interval narrows hardly."""
    slots, _ = _slots(0, 0.95)
    number = np.arange(len(slots.page))
    again = [np.tile(column, 10) for column in (slots.clicks, slots.impressions, slots.predicted)]
    page = np.concatenate([slots.page + 400 * copy for copy in range(10)])
    once = item_position(replace(slots, cell=number))
    repeated = item_position(Slots(page, page, *again, cell=np.tile(number, 10)))
    assert isinstance(once, OffPolicy)
    assert isinstance(repeated, OffPolicy)
    noise = item_position(Slots(page, page, *again))
    assert isinstance(noise, OffPolicy)
    assert repeated.high - repeated.low > 1.1 * (noise.high - noise.low)


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
        found = contrast.estimate()
        assert isinstance(found, Estimate)
        low, high = found.interval()
        inside.append(low <= truth <= high)
    assert 0.92 < np.mean(inside) < 0.98


def test_one_rank_is_the_plain_estimator() -> None:
    """With one place on the page, value and effective size are those of `WeightedSums`, which is held against obp."""
    reward, logged, aimed, *_ = _log(3)
    weight = aimed / logged
    columns = (weight, weight**2, weight * reward, weight * reward)
    arm = RankWeights(*(column[:, None] for column in columns))
    contrast = self_normalised(np.ones((len(reward), 1)), arm, arm)
    plain = WeightedSums.of(reward, logged, aimed)
    assert isinstance(contrast, Contrast)
    assert contrast.sums.challenger / contrast.sums.queries == pytest.approx(plain.reward / plain.weight)
    assert contrast.effective == pytest.approx(plain.effective)


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
    assert isinstance(thin.estimate(), Inconclusive)
