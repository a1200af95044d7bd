"""Pages as they were, and what sessions clicked for their other queries."""

from __future__ import annotations

import pytest

from flywheel.clicks.pages import ClickLog
from flywheel.clicks.sessions import Chains
from tests.store.clicks.test_evidence import PLAIN, T0, Shop, shop

__all__ = ["shop"]
MINUTE_MS = 60_000


def seen(shop: Shop, exclude: tuple[str, ...] = ()) -> tuple[ClickLog, Chains]:
    """The pages and chains of everything so far."""
    _, log, chains = shop.store.evidence.collect_with_pages(T0 + 10**9, PLAIN, exclude_keys=exclude)
    return log, chains


def test_pages_come_as_they_were_shown_and_clicked(shop: Shop) -> None:
    """Each page of the evidence is there, by person, with its order and its clicks; an excluded query is not."""
    first = shop.page("red shoes", "abc", user="anna")
    shop.click(first, "b")
    shop.page("red shoes", "bac", user="ben", at=T0 + 5)
    shop.page("golden", "abc", user="ben", at=T0 + 9)
    log, _ = seen(shop, ("golden",))
    assert log.queries == ("red shoes",)
    names = [[log.documents[log.pair_document[pair]] for pair in row] for row in log.pair]
    assert names == [["a", "b", "c"], ["b", "a", "c"]]
    assert log.clicked.tolist() == [[False, True, False], [False, False, False]]
    assert len(set(log.person.tolist())) == 2


def test_a_session_chains_its_queries_and_no_other_does(shop: Shop) -> None:
    """What somebody clicked is chained to her other queries of half an hour, and to nobody else's."""
    first = shop.page("shoes", "ab", session_id="s1")
    shop.click(first, "a")
    shop.page("red shoes", "cd", session_id="s1", at=T0 + 5 * MINUTE_MS)
    shop.page("hats", "ef", session_id="s1", at=T0 + 45 * MINUTE_MS)
    shop.page("blue shoes", "cd", session_id="s2", at=T0 + 5 * MINUTE_MS)
    _, chains = seen(shop)
    assert list(zip(chains.query, chains.doc_id, strict=True)) == [("red shoes", "a")]
    assert chains.weight.tolist() == pytest.approx([1.0])
    assert len(seen(shop, ("shoes",))[1]) == 0


def test_of_many_pages_whole_queries_are_drawn(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries whose people can be compared come first, and a query that is drawn has all of its pages."""
    monkeypatch.setattr("flywheel.store.clicks.pages.MOST_PAGES", 4)
    for number in range(3):
        for person in ("anna", "ben"):
            shop.page(f"often {number}", "ab", user=person)
    for number in range(5):
        shop.page(f"once {number}", "ab", user="carl")
    log, _ = seen(shop)
    assert len(log.queries) == 2
    assert all(name.startswith("often") for name in log.queries)
    assert len(log.query) == 4


def test_who_comes_often_is_no_robot_and_who_asks_without_end_is(shop: Shop) -> None:
    """A person without session ids keeps her chains however often she came over the year; sixty searches in half an
    hour chain nothing."""
    for day in range(60):
        shop.page(f"other {day}", "xy", user="anna", at=T0 + day * 86_400_000)
    first = shop.page("shoes", "ab", user="anna", at=T0 + MINUTE_MS)
    shop.click(first, "a")
    for number in range(60):
        page = shop.page(f"asked {number}", "cd", user="ben", at=T0 + number * 10_000)
        shop.click(page, "c")
    _, _, chains = shop.store.evidence.collect_with_pages(T0 + 10**11, PLAIN)
    assert list(zip(chains.query, chains.doc_id, strict=True)) == [("other 0", "a")]
