"""Team draft: fair pages, credit only where the rankers differ, one vote a user."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.references import credit
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.interleaving import PreferenceSums, team_draft

RANKINGS = st.permutations([f"d{n}" for n in range(8)])


@given(RANKINGS, RANKINGS, st.integers(1, 12), st.integers(0, 10))
def test_page_is_whole(champion: list[str], challenger: list[str], k: int, seed: int) -> None:
    """Every page has k different hits (or all there are), and the teams' sizes differ by one at most."""
    page, teams = team_draft(champion[:6], challenger[:6], k, np.random.default_rng(seed))
    assert len(page) == len(set(page)) == len(teams) == min(k, len({*champion[:6], *challenger[:6]}))
    if k <= 6:
        assert abs(teams.count("champion") - teams.count("challenger")) <= 1


@given(RANKINGS, st.integers(0, 10))
def test_same_ranking_earns_nobody(ranking: list[str], seed: int) -> None:
    """Two equal rankings give that ranking, and no click on it is anybody's."""
    page, teams = team_draft(ranking, ranking, 8, np.random.default_rng(seed))
    assert (page, set(teams)) == (ranking, {"both"})


def test_shared_head_is_nobodys() -> None:
    """A hit that both put first belongs to both; the hits where they part belong to one each."""
    page, teams = team_draft(["a", "b", "x"], ["a", "c", "y"], 3, np.random.default_rng(0))
    assert page[0] == "a"
    assert set(page[1:]) == {"b", "c"}
    assert (teams[0], set(teams[1:])) == ("both", {"champion", "challenger"})


@pytest.mark.parametrize("examined", [1, 3, 8])
def test_random_clicks_prefer_nobody(examined: int) -> None:
    """Clicks that do not look at the documents, only at the rank, favour neither ranker."""
    rng = np.random.default_rng(2)
    champion, challenger = list("abcdefgh"), list("bdacfehg")
    votes = []
    for _ in range(4_000):
        _, teams = team_draft(champion, challenger, 8, rng)
        ours, theirs = credit(teams, {int(rng.integers(1, examined + 1))})
        votes.append(theirs - ours)
    assert abs(np.mean(votes)) < 3.5 * np.std(votes) / np.sqrt(4_000) + 1e-9


def test_better_ranker_is_preferred() -> None:
    """Users who click what is relevant prefer the ranker that puts it higher."""
    rng = np.random.default_rng(3)
    earned = np.zeros((300, 2))
    for user in range(300):
        page, teams = team_draft(["x", "y", "good"], ["good", "x", "y"], 3, rng)
        seen = rng.random(3) < 1 / np.arange(1, 4)
        earned[user] = credit(teams, {rank for rank, hit in enumerate(page, 1) if seen[rank - 1] and hit == "good"})
    found = PreferenceSums.of(*earned.T).compare()
    assert isinstance(found, Estimate)
    assert found.p_gain() < 1e-6


def test_one_user_is_one_vote() -> None:
    """A thousand clicks of one user weigh no more than one click of another."""
    sums = PreferenceSums.of(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1_000.0, 0.0]))
    assert (sums.users, sums.undecided, sums.preference) == (3, 1, -1.0)
    assert (sums.for_challenger, sums.for_champion) == (1, 2)
    halves = [
        PreferenceSums.of(np.array(a), np.array(b)) for a, b in (([1.0, 1.0], [0.0, 0.0]), ([0.0, 0.0], [9.0, 0.0]))
    ]
    assert halves[0] + halves[1] == sums


def test_one_mind_is_an_answer() -> None:
    """Where nobody disagrees there is still an error, a little below the one with a single dissenter."""
    ones, none = np.ones(500), np.zeros(500)
    found = PreferenceSums.of(none, ones).compare()
    dissent = PreferenceSums.of(np.append(none, 1.0), np.append(ones, 0.0)).compare()
    assert isinstance(found, Estimate)
    assert isinstance(dissent, Estimate)
    assert (found.effect, found.standard_error) == (1.0, pytest.approx(dissent.standard_error, rel=0.01))
    assert PreferenceSums.of(ones, none).compare().effect == -1.0  # type: ignore[union-attr]
    assert found.p_gain() < 1e-6


def test_nobody_decided_is_no_answer() -> None:
    """Without two users who prefer one there is a reason instead of an effect."""
    assert isinstance(PreferenceSums.of(np.zeros(5), np.zeros(5)).compare(), Inconclusive)
