"""The explorer that serves a plan: who stands where, how often, and what is said about it."""

from __future__ import annotations

import pytest

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
