from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from flywheel.clicks.checks.agreement import agreement
from flywheel.clicks.pages import ClickLog, ShownPage
from tests.clicks.logged import browsing_alone, logged

EXAMINATION = 0.8 / np.arange(1.0, 7.0)


def test_people_who_agree_are_found() -> None:
    """Where some documents attract five times as much as others, chance is ruled out."""
    rng = np.random.default_rng(0)
    world = logged(np.where(rng.random((20, 8)) < 0.25, 0.9, 0.18), EXAMINATION, seed=1, pages=1_500)
    found = agreement(world.log, rng)
    assert found.holds
    assert found.z > 5
    assert found.queries == 20


def test_different_browsing_is_no_agreement() -> None:
    """Queries whose clicks decay differently raise an alarm no more often than the level of the test allows."""
    found = [agreement(browsing_alone(seed), np.random.default_rng(seed)) for seed in range(30)]
    assert sum(one.holds for one in found) <= 1
    # 30 uniform p-values: fewer than 6 below 0.05 with a chance of 0.99
    assert sum(one.p <= 0.05 for one in found) <= 6
    assert abs(np.mean([one.z for one in found])) < 3 / math.sqrt(30)


def test_the_p_value_is_that_of_all_permutations() -> None:
    """On a log that is small enough to permute in every way, the sampled p-value is the exact one."""
    clicks = [{"a"}, {"a"}, {"b"}, {"a", "c"}, set(), {"a"}]
    lists = ["abc", "bac", "cab", "acb", "bca", "abc"]
    pages = [ShownPage("q", f"p{n}", n, list(shown), clicks[n]) for n, shown in enumerate(lists)]
    did = [[doc in clicks[n] for doc in shown] for n, shown in enumerate(lists)]
    rate = np.mean(did, axis=0)
    expected = {doc: sum(rate[shown.index(doc)] for shown in lists) for doc in "abc"}

    def examined(row: list[bool], place: int) -> bool:
        return any(row[place:])

    look = [sum(row[place] for row in did) / max(1, sum(examined(row, place) for row in did)) for place in range(3)]

    def statistic(rows: tuple[list[bool], ...]) -> float:
        total = 0.0
        for doc in "abc":
            places = [(row, shown.index(doc)) for row, shown in zip(rows, lists, strict=True)]
            count = sum(row[place] for row, place in places)
            skipped = sum(look[place] for row, place in places if examined(row, place) and not row[place])
            total += math.lgamma(1 + count) - (1 + count) * math.log1p(expected[doc] + skipped)
        return total

    every = [statistic(rows) for rows in itertools.permutations(did)]
    exact = np.mean([value >= statistic(tuple(did)) - 1e-9 for value in every])
    found = [agreement(ClickLog.of(pages), np.random.default_rng(seed)) for seed in range(30)]
    assert np.mean([(one.p * (one.permutations + 1) - 1) / one.permutations for one in found]) == pytest.approx(
        exact, abs=0.03
    )
    assert 0.01 < exact < 0.9


def test_one_person_does_not_agree_with_herself() -> None:
    """A person who comes back fifty times is one visit, and a page that never changes tells nothing."""
    alone = [ShownPage("q", "anna", n, ["a", "b"][:: 1 - 2 * (n % 2)], {"a"}) for n in range(50)]
    assert agreement(ClickLog.of(alone), np.random.default_rng(0)).p == 1.0
    fixed = [ShownPage("q", f"p{n}", n, ["a", "b"], {"a"}) for n in range(50)]
    found = agreement(ClickLog.of(fixed), np.random.default_rng(0))
    assert (found.p, found.clicks, found.queries, found.holds) == (1.0, 0, 0, False)
