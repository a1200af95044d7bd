"""Who keeps one model for ever, and that nothing else is tried on them."""

from __future__ import annotations

from dataclasses import replace

from flywheel.serving.served import Live, LiveExperiment, Page, Ranker
from tests.serving.house import House, WordEncoder
from tests.serving.test_engine import PutsLast

PEOPLE = [f"c{number}" for number in range(400)]


def _lane(house: House, champion: str, share: float) -> Live:
    """A frozen model `m0` beside the champion, a challenger in every page of others, and exploration."""
    frozen, challenger = (Ranker(name, WordEncoder(tilt=tilt), house.index) for name, tilt in (("m0", 5), ("m2", 3)))
    alone = Live(champion, house.encoder, house.index)
    kept = replace(alone, challenger=frozen, experiment=LiveExperiment("frozen-m0", "holdback", share))
    tried = LiveExperiment("e1", "interleaving", 1.0)
    return replace(alone, challenger=challenger, experiment=tried, explorer=PutsLast("retry"), frozen=kept)


def _pages(house: House, live: Live) -> dict[str, Page]:
    house.engine.swap(live)
    return {person: house.engine.search("copy a list", 3, client_id=person) for person in PEOPLE}


def _kept(pages: dict[str, Page]) -> set[str]:
    return {person for person, page in pages.items() if page.model_version == "m0"}


def test_the_same_people_keep_it_through_promotions_and_rollbacks(house: House) -> None:
    """The share that was asked for, always the same people, whoever is champion; a larger share only adds some."""
    first = _pages(house, _lane(house, "base", 0.1))
    again = _pages(house, _lane(house, "v7", 0.1))
    assert _kept(first) == _kept(again)
    assert 20 < len(_kept(first)) < 60
    assert _kept(first) < _kept(_pages(house, _lane(house, "base", 0.2)))


def test_they_are_outside_experiments_and_exploration(house: House) -> None:
    """Kept people and those held against them, as many, are in no other experiment and see no explored slot; all
    others are in the experiment."""
    pages = _pages(house, _lane(house, "base", 0.1)).values()
    arms = {(page.experiment_id, page.arm, page.model_version) for page in pages}
    assert arms == {
        ("frozen-m0", "champion", "m0"),
        ("frozen-m0", "challenger", "base"),
        ("e1", "interleaved", "base"),
    }
    lane = [page for page in pages if page.experiment_id == "frozen-m0"]
    assert all(page.explored == () and page.teams is None for page in lane)
    sizes = [sum(page.arm == arm for page in lane) for arm in ("champion", "challenger")]
    assert abs(sizes[0] - sizes[1]) < 30


def test_their_query_vectors_stay_in_memory(house: House) -> None:
    """A swap that keeps the frozen model forgets none of its vectors."""
    live = _lane(house, "base", 0.25)
    _pages(house, live)
    before = house.engine.counts()["vector_cache_misses"]
    _pages(house, live)
    assert house.engine.counts()["vector_cache_misses"] == before
