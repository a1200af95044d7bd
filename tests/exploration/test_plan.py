"""The plan of exploration: free places first, one document until it is settled, and both caps kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flywheel.exploration.plan import ExplorationPolicy, Pool, SlotPlan, believe, information, plan, state
from tests import defaults

RANKS = np.arange(1, 6)
RELEVANT, IRRELEVANT = 0.9 / RANKS, 0.1 / RANKS
PLACES = [1, 2, 3, 4, 5, 0, 0, 0]
EVERYTHING = defaults.exploring(share=1.0, max_ctr_cost=1.0, probability=0.8, slots=1)


def pool(*queries: list[float], opened: tuple[int, ...] = (), impressions: float = 0.0) -> Pool:
    """Pages of five with three documents off each, by posterior."""
    count = len(queries)
    rows = count * len(PLACES)
    return Pool(
        query=np.repeat(np.arange(count), len(PLACES)),
        place=np.tile(PLACES, count),
        posterior=np.concatenate([np.array(posterior) for posterior in queries]),
        impressions=np.full(rows, impressions),
        open=np.isin(np.arange(rows), opened),
        pages=np.full(count, 100.0),
        clicks=100.0 * count,
    )


def made(found: Pool, policy: ExplorationPolicy = EVERYTHING) -> SlotPlan:
    return plan(found, RELEVANT, IRRELEVANT, policy)


def test_a_place_that_people_found_wanting_is_free_however_high() -> None:
    """With rank 1 relevant and rank 2 resolved as not, the newcomer takes rank 2 at no cost."""
    found = made(pool([0.98, 0.001, 0.98, 0.001, 0.98, 0.05, 0.001, 0.001]))
    assert (found.row.tolist(), found.displaced.tolist(), found.rank.tolist()) == ([5], [1], [2])
    assert found.cost[0] <= 0


def test_a_document_more_likely_relevant_than_the_newcomer_keeps_its_place() -> None:
    """Where every place is held by a probable answer nobody off the page gets one."""
    assert len(made(pool([0.9, 0.9, 0.9, 0.9, 0.9, 0.2, 0.2, 0.2]))) == 0


def test_who_is_being_explored_stays_until_it_is_settled() -> None:
    """An open document goes before a more promising one; settled either way it makes room."""
    posterior = [0.98, 0.001, 0.001, 0.001, 0.001, 0.02, 0.2, 0.001]
    assert made(pool(posterior)).row.tolist() == [6]
    assert made(pool(posterior, opened=(5,))).row.tolist() == [5]
    for settled in (0.002, 0.96):
        posterior[5] = settled
        assert made(pool(posterior, opened=(5,))).row.tolist() == [6]


def test_who_stays_undecided_is_given_up_after_its_impressions() -> None:
    """`max_impressions` ends a test that neither bound ends."""
    assert len(made(pool([0.98, 0.001, 0.001, 0.001, 0.001, 0.02, 0.2, 0.1], impressions=60.0))) == 0


@pytest.mark.parametrize(
    ("posterior", "impressions", "expected"),
    [(0.95, 1.0, "confirmed"), (0.0029, 1.0, "dropped"), (0.5, 60.0, "exhausted"), (0.5, 59.0, "open")],
)
def test_the_sequential_test_ends_at_its_bounds(posterior: float, impressions: float, expected: str) -> None:
    """Confirmed from `confirm` on, dropped below `drop`, exhausted at `max_impressions`, else open."""
    assert state(posterior, impressions, defaults.exploring()) == expected


def test_a_low_place_on_the_page_is_explored_by_an_exchange() -> None:
    """An uncertain document at rank 5 changes places with a resolved one, and that wins clicks."""
    found = made(pool([0.98, 0.001, 0.001, 0.001, 0.4, 0.001, 0.001, 0.001]))
    assert (found.row.tolist(), found.rank.tolist()) == ([4], [2])
    assert found.cost[0] == pytest.approx((0.8 / 2 - 0.8 / 5) * (0.001 - 0.4))


def test_expected_losses_fit_the_budget_of_clicks() -> None:
    """Where every place costs something the losses stay within `max_ctr_cost` of all clicks, and nearly use it up."""
    rng = np.random.default_rng(0)
    found = pool(*(list(np.concatenate([rng.uniform(0.1, 0.45, 5), rng.uniform(0.01, 0.1, 3)])) for _ in range(200)))
    found = replace(found, impressions=np.where(found.place > 0, 100.0, 0.0))  # nobody on the page is to be explored
    losses = []
    for budget in (1.0, 0.02, 0.002, 0.0):
        planned = made(found, replace(EVERYTHING, max_ctr_cost=budget))
        loss = (100 * planned.probability * np.maximum(0, planned.cost)).sum()
        assert loss <= budget * found.clicks
        losses.append(loss)
    assert losses[0] > losses[1] > losses[2] > losses[3] == 0
    assert losses[1] > 0.8 * 0.02 * found.clicks


def test_the_plan_fits_its_share_of_slots() -> None:
    """No more than `share` of all slots, counted with their probabilities, and the most informative ones of all."""
    rng = np.random.default_rng(1)
    found = pool(*([0.001] * 5 + list(rng.uniform(0.01, 0.4, 3)) for _ in range(100)))
    everything = made(found)
    few = made(found, replace(EVERYTHING, share=0.05))
    slots = (100 * few.probability).sum()
    assert 0.045 * 100 * 100 * 5 < slots <= 0.05 * 100 * 100 * 5
    assert few.information.min() >= np.sort(everything.information)[-len(few) :].min()
    assert len(made(found, replace(EVERYTHING, share=0.0))) == 0


def test_two_slots_of_a_page_share_neither_rank_nor_document() -> None:
    """Every document and every rank of a query takes part in one slot at most."""
    rng = np.random.default_rng(2)
    found = pool(*(list(rng.uniform(0.004, 0.3, 8)) for _ in range(50)))
    planned = made(found, replace(EVERYTHING, slots=2))
    assert np.bincount(planned.query).max() == 2
    for query in range(50):
        of = planned.query == query
        rows = [*planned.row[of], *planned.displaced[of]]
        ranks = [*planned.rank[of], *(place for place in found.place[planned.row[of]] if place)]
        assert len(set(rows)) == len(rows)
        assert len(set(ranks)) == len(ranks)


def test_the_same_pool_gives_the_same_plan_and_an_empty_one_none() -> None:
    """Nothing in a plan is left to chance."""
    found = pool(*(list(np.random.default_rng(3).uniform(0, 0.4, 8)) for _ in range(20)))
    first, second = made(found), made(found)
    assert all((getattr(first, name) == getattr(second, name)).all() for name in SlotPlan.__slots__)
    none = np.empty(0, np.int64)
    assert len(made(Pool(none, none, np.empty(0), np.empty(0), np.empty(0, bool), np.empty(0), 0.0))) == 0


def test_information_is_what_simulated_clicks_tell() -> None:
    """The closed form equals the plug-in mutual information of a million draws, and a rank nobody looks at tells 0."""
    rng = np.random.default_rng(4)
    relevant = rng.random(1_000_000) < 0.3
    clicked = rng.random(1_000_000) < np.where(relevant, 0.45, 0.05)
    joint = np.array([[np.mean((relevant == r) & (clicked == c)) for c in (0, 1)] for r in (0, 1)])
    expected = (joint * np.log(joint / joint.sum(1, keepdims=True) / joint.sum(0, keepdims=True))).sum()
    found = information(np.array([0.3]), np.array([0.45, 0.0]), np.array([0.05, 0.0]))
    assert found[0] == pytest.approx([expected, 0.0], abs=1e-3)


def test_priors_of_documents_never_shown_are_calibrated() -> None:
    """Fitted on clicks of shown rows alone, the priors of the others add up to how many of them are relevant."""
    rng = np.random.default_rng(5)
    count = 20_000
    query = np.repeat(np.arange(count // 20), 20)
    feature = rng.normal(size=count)
    relevant = rng.random(count) < 1 / (1 + np.exp(3 - 1.5 * feature))
    shown = rng.random(count) < 1 / (1 + np.exp(-feature))
    clicks = rng.binomial(8, np.where(relevant, 0.3, 0.03))
    ratio = np.where(shown, clicks * np.log(0.3 / 0.03) + (8 - clicks) * np.log(0.7 / 0.97), 0.0)
    prior, posterior = believe(query, feature[:, None], ratio, shown, np.full(count, 0.1))
    assert prior[~shown].sum() == pytest.approx(relevant[~shown].sum(), rel=0.1)
    assert posterior[shown].sum() == pytest.approx(relevant[shown].sum(), rel=0.05)
    assert posterior[~shown] == pytest.approx(prior[~shown])
