from __future__ import annotations

import numpy as np
import pytest

from flywheel.rehearsal.people import SILENT, Afterwards, Habit, People

PAGES, K = 40_000, 5
RELEVANT = np.tile(np.array([[True, False, True, False, True]]), (PAGES, 1))
RANK = np.arange(1, K + 1)


def rates(habit: Habit) -> np.ndarray:
    return People(habit, SILENT).react(RELEVANT, np.random.default_rng(0)).clicked.mean(axis=0)


def test_pbm_rates_are_examination_times_attraction() -> None:
    """pbm people examine rank k with 1/k and click 0.9 of relevant, 0.1 of irrelevant documents they examine."""
    assert rates("pbm") == pytest.approx(np.where(RELEVANT[0], 0.9, 0.1) / RANK, abs=0.01)


def test_trust_rates_follow_the_rank() -> None:
    """trust people click 0.1 + 0.35/k of irrelevant and min(0.98, 0.9 + 0.1/k) of relevant documents they examine."""
    attraction = np.where(RELEVANT[0], np.minimum(0.98, 0.9 + 0.1 / RANK), 0.1 + 0.35 / RANK)
    assert rates("trust") == pytest.approx(attraction / RANK, abs=0.01)


def test_cascade_rates_follow_from_who_is_still_looking() -> None:
    """cascade people reach a rank unless they stopped: 0.8 / 0.2 after a click, 0.1 without one."""
    looking, expected = 1.0, []
    for relevant in RELEVANT[0]:
        attraction, stop = (0.9, 0.8) if relevant else (0.1, 0.2)
        expected.append(looking * attraction)
        looking *= 1 - attraction * stop - (1 - attraction) * 0.1
    assert rates("cascade") == pytest.approx(np.array(expected), abs=0.01)


def test_random_people_click_one_result_of_any_kind() -> None:
    """random people click exactly one result a page, uniformly."""
    clicked = People("random", SILENT).react(RELEVANT, np.random.default_rng(0)).clicked
    assert (clicked.sum(axis=1) == 1).all()
    assert clicked.mean(axis=0) == pytest.approx(1 / K, abs=0.01)


def test_colluders_click_their_document_and_nothing_else() -> None:
    """5 % of poison's users collude, always the same ones, and only ever click the target."""
    people = People("poison", SILENT)
    users = np.arange(20_000)
    cheats = people.colludes(users)
    assert cheats.mean() == pytest.approx(0.05, abs=0.005)
    assert (cheats == people.colludes(users)).all()
    target = np.zeros((2, K), dtype=bool)
    target[0, 3] = True
    did = people.react(RELEVANT[:2], np.random.default_rng(0), colluding=np.array([True, True]), target=target)
    assert (did.clicked == target).all()


def test_dwell_and_thumbs_tell_relevance_and_can_be_switched_off() -> None:
    """Satisfied dwell and thumbs up follow clicks on relevant documents mostly; SILENT people leave clicks alone."""
    did = People("pbm", Afterwards(dwell_rate=1.0, thumb_rate=0.2)).react(RELEVANT, np.random.default_rng(0))
    good, bad = did.clicked & RELEVANT, did.clicked & ~RELEVANT
    assert (did.dwell_ms[good] >= 30_000).mean() > 0.7 > 0.3 > (did.dwell_ms[bad] >= 30_000).mean()
    assert (did.dwell_ms[~did.clicked] == 0).all()
    assert did.thumbs[good].sum() > 0 > did.thumbs[bad].sum()
    silent = People("pbm", SILENT).react(RELEVANT, np.random.default_rng(0))
    assert not silent.dwell_ms.any()
    assert not silent.thumbs.any()


def test_one_page_and_many_take_the_same_road() -> None:
    """A page given alone reacts as the same page in a stack of one, with a dimension less."""
    people = People("cascade")
    alone = people.react(RELEVANT[0], np.random.default_rng(7))
    stacked = people.react(RELEVANT[:1], np.random.default_rng(7))
    assert alone.clicked.shape == (K,)
    assert (alone.clicked == stacked.clicked[0]).all()
    assert (alone.dwell_ms == stacked.dwell_ms[0]).all()
