"""The explorer that serves a plan: who stands where, how often, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.serving.explorer import PlannedExplorer, Slot

HITS = ("a", "b", "c", "d")


def explorer(*slots: Slot, coin_seed: int = 0) -> PlannedExplorer:
    made = PlannedExplorer(coin_seed)
    made.adopt({"deep copy": slots})
    return made


def test_a_planned_document_takes_the_place_that_it_was_planned_for() -> None:
    """Under the query however it is typed; other queries get their pages as they are."""
    made = explorer(Slot("x", "b", 1.0))
    placed = made.place(" Deep  COPY?", HITS, page="p")
    assert placed is not None
    assert (placed.hits, placed.explored, placed.propensities) == (("a", "x", "c", "d"), (2,), (1.0, 1.0, 1.0, 1.0))
    assert made.place("another", HITS, page="p") is None


def test_a_document_from_further_down_changes_places() -> None:
    """Both stay on the page, and both ranks carry the probability."""
    pages = [explorer(Slot("d", "a", 0.7)).place("deep copy", HITS, page=str(i)) for i in range(20)]
    assert {placed.hits for placed in pages if placed} == {("d", "b", "c", "a"), HITS}
    assert {placed.propensities for placed in pages if placed and placed.explored} == {(0.7, 1.0, 1.0, 0.7)}
    assert {placed.explored for placed in pages if placed} == {(1,), ()}


def test_propensities_are_how_often_each_document_is_shown_at_its_rank() -> None:
    """Over many pages, explored or not, the share of pages that show a document at a rank is the logged one."""
    made = explorer(Slot("x", "b", 0.8), Slot("y", "d", 0.3))
    shown: dict[tuple[int, str], int] = {}
    logged: dict[tuple[int, str], float] = {}
    for page in range(5_000):
        placed = made.place("deep copy", HITS, page=f"page {page}")
        assert placed is not None
        for rank, (doc_id, propensity) in enumerate(zip(placed.hits, placed.propensities, strict=True)):
            shown[rank, doc_id] = shown.get((rank, doc_id), 0) + 1
            logged[rank, doc_id] = propensity
    assert {key: count / 5_000 for key, count in shown.items()} == pytest.approx(logged, abs=0.02)
    assert logged[1, "x"] + logged[1, "b"] == pytest.approx(1)
    assert logged[3, "y"] + logged[3, "d"] == pytest.approx(1)


def test_the_coin_is_the_pages() -> None:
    """The same page is placed the same way again, another seed places it another way."""
    slots = Slot("x", "b", 0.5)
    pages = [str(number) for number in range(50)]
    first, again, other = (
        [explorer(slots, coin_seed=seed).place("deep copy", HITS, page=page) for page in pages] for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    "slot", [Slot("x", "gone", 1.0), Slot("a", "b", 1.0)], ids=["its place is gone", "it stands higher by now"]
)
def test_a_page_that_changed_since_the_plan_stays_as_it_is(slot: Slot) -> None:
    """A champion that ranks anew is not explored by a plan made for another's pages."""
    assert explorer(slot).place("deep copy", HITS, page="p") is None


def test_two_slots_never_meet() -> None:
    """The second one of two that touch the same rank is left out."""
    placed = explorer(Slot("d", "a", 1.0), Slot("x", "d", 1.0)).place("deep copy", HITS, page="p")
    assert placed is not None
    assert placed.hits == ("d", "b", "c", "a")


def fair(share: float = 1.0) -> PlannedExplorer:
    return PlannedExplorer(3, share)


def test_neighbours_stand_in_either_order_with_equal_chance() -> None:
    """Each pair of neighbours of the first ten is drawn alike, swapped half of the time, and recorded either way."""
    hits = tuple(f"d{number}" for number in range(14))
    seen: dict[tuple[int, bool], int] = {}
    for page in range(18_000):
        placed = fair().place("anything", hits, page=f"page {page}")
        assert placed is not None
        assert placed.fair_pair is not None
        upper = placed.fair_pair - 1
        swapped = placed.hits != hits
        assert placed.hits == (*hits[:upper], *(hits[upper : upper + 2][:: -1 if swapped else 1]), *hits[upper + 2 :])
        assert placed.explored == (), "no document came that would not have been there"
        assert [rank for rank, chance in enumerate(placed.propensities) if chance < 1] == [upper, upper + 1]
        seen[upper, swapped] = seen.get((upper, swapped), 0) + 1
    assert sorted(seen) == [(upper, swapped) for upper in range(9) for swapped in (False, True)]
    assert list(seen.values()) == pytest.approx([1_000] * 18, abs=150)


def test_only_the_share_is_swapped_and_never_a_planned_page() -> None:
    """About the share of the pages has a pair, the others follow the plan, and a page has one or the other."""
    made = PlannedExplorer(0, 0.2)
    made.adopt({"deep copy": (Slot("x", "b", 1.0),)})
    placed = [made.place("deep copy", HITS, page=str(page)) for page in range(4_000)]
    pairs = [page for page in placed if page and page.fair_pair is not None]
    assert len(pairs) == pytest.approx(800, abs=80)
    assert not any("x" in page.hits for page in pairs)
    assert all(page and "x" in page.hits for page in placed if page not in pairs)
    assert fair(0.0).place("deep copy", HITS, page="p") is None
    assert fair().place("deep copy", ("alone",), page="p") is None


@given(
    relevant=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    looks=st.lists(st.floats(0, 1), min_size=12, max_size=12),
)
@settings(max_examples=30, deadline=None)
def test_a_page_cannot_lose_more_than_the_bound(relevant: list[float], looks: list[float]) -> None:
    """However people look down a page and whatever is relevant, all orders together lose e_1 / (2 (n - 1)) at most."""
    examined = np.sort(looks)[::-1][: len(relevant)]
    hits = tuple(map(str, range(len(relevant))))
    lost: dict[int, float] = {}
    for page in range(400):
        placed = fair().place("q", hits, page=str(page))
        assert placed is not None
        assert placed.fair_pair is not None
        swap = placed.fair_pair - 1
        clicks = float(examined @ np.array(relevant))
        order = [*range(swap), swap + 1, swap, *range(swap + 2, len(hits))]
        lost[swap] = clicks - float(examined @ np.array(relevant)[order])
    places = min(len(hits), 10)
    assert sorted(lost) == list(range(places - 1)), "every pair was seen"
    assert sum(lost.values()) / 2 / (places - 1) <= examined[0] / (2 * (places - 1)) + 1e-9
