"""Pages whose order says nothing about relevance teach nothing, whoever reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.clicks.pages import GRID
from flywheel.commands.clicks import home
from flywheel.events import Kind, Query
from flywheel.settings.load import Signals
from flywheel.store import Store
from flywheel.store.published.questions import pages_seen
from flywheel.store.training.novelty import Novelty
from tests.store.make import DAY, HOUR, NOW, batch, event, query

ROOT = Path(__file__).parents[3]
PLAIN = Signals(half_life_days=1e9)
ACTS = (Kind.CLICK, Kind.DWELL, Kind.THUMBS_UP, Kind.ADD_TO_CART, Kind.PURCHASE)


def _fill(store: Store, pages: list[Query], acts: dict[str, str]) -> None:
    """`acts`: page -> the document with which everything possible was done."""
    events = [
        event(f"{page}-{doc}-{kind}", NOW + 1, kind, query_id=page, doc_id=doc, rank=None, dwell_ms=9 * HOUR)
        for page, doc in acts.items()
        for kind in ACTS
    ]
    store.feedback.ingest(batch(queries=pages, events=events), "cluster", NOW + DAY)


def _learned(store: Store) -> dict[str, Any]:
    """What each reader makes of the store's pages."""
    found = store.evidence.collect(NOW + DAY, PLAIN)
    evidence = {name: getattr(found.evidence, name) for name in type(found.evidence).__dataclass_fields__}
    pages = store.sql.query(pages_seen(100)).to_pylist()
    return {
        "evidence": {name: np.asarray(value).tolist() for name, value in evidence.items()},
        "facts": [np.asarray(getattr(found.facts, name)).tolist() for name in ("carts", "purchases", "thumbs_up")],
        "pages": sorted(
            (
                row["query_key"],
                row["documents"],
                row["ranks"],
                [doc for doc in row["documents"] if doc in row["clicked"]],
            )
            for row in pages
        ),
        "held out": sorted(store.heldout.query_keys(NOW + DAY)),
        "asked": store.traffic.query_counts(NOW - DAY, NOW + DAY),
        "rates": store.traffic.rates(NOW - DAY, NOW + DAY, satisfied_ms=1),
        "new": Novelty(store.database).new_pairs(NOW - DAY, NOW + DAY),
    }


def _plain(number: int, **fields: Any) -> Query:
    return query(f"q{number}", NOW, client_key=f"c{number}", text=f"text {number % 2}", **fields)


def test_sorted_pages_are_as_if_they_had_not_been(tmp_path: Path) -> None:
    """Evidence, agreement pages, held-out queries, triggers and counts are the same with and without sorted pages."""
    plain = [_plain(number) for number in range(4)]
    by_price = [_plain(number, sorted_by="price") for number in range(4, 9)]
    acts = {f"q{number}": "d2" for number in range(0, 9, 2)}
    told = []
    for name, pages in (("without", plain), ("with", plain + by_price)):
        with Store.open(tmp_path / f"{name}.duckdb", memory_gb=0.5, threads=1) as store:
            _fill(store, pages, acts)
            told.append(_learned(store))
            marked = store.traffic.marked()
    assert told[0]["pages"], "the plain pages are read at all"
    assert told[1] == told[0]
    assert marked.sorted == 5


def test_a_paid_place_teaches_nothing_and_the_others_keep_their_ranks(tmp_path: Path) -> None:
    """Nothing that people do with a sponsored document counts, and what stands below it stands where it stood."""
    paid = [_plain(number, hit_ids=("ad", "d1", "ad", "d2"), sponsored=("ad",)) for number in range(4)]
    bare = [_plain(number, hit_ids=()) for number in range(4)]
    shown = [
        event(f"i{page}-{rank}", NOW, Kind.IMPRESSION, query_id=f"q{page}", doc_id=doc, rank=rank)
        for page in range(4)
        for rank, doc in ((2, "d1"), (4, "d2"))
    ]
    told = []
    for name, pages, acts in (("paid", paid, {"q0": "ad", "q1": "d2"}), ("bare", bare, {"q1": "d2"})):
        with Store.open(tmp_path / f"{name}.duckdb", memory_gb=0.5, threads=1) as store:
            _fill(store, pages, acts)
            if name == "bare":
                store.feedback.ingest(batch(events=shown, start=100), "cluster", NOW + DAY)
            told.append(_learned(store))
            marked = store.traffic.marked()
            if name == "paid":
                assert (marked.sponsored, marked.sponsored_places) == (4, 4)
    assert told[0]["evidence"]["documents"] == ["d1", "d2"]
    assert told[0] == told[1]


def test_a_grid_has_ranks_of_its_own(store: Store) -> None:
    """The same list shown as a grid adds no impression to a list's rows, in evidence and among the pages."""
    pages = [query("q1"), query("q2", client_key="other", layout="grid"), query("q3", client_key="more", layout="list")]
    _fill(store, pages, {"q2": "d2"})
    found = store.evidence.collect(NOW + DAY, PLAIN).evidence
    assert found.grid is not None
    assert found.impressions[~found.grid].sum() == 6
    assert found.impressions[found.grid].sum() == 3
    assert found.clicks[~found.grid].sum() == 0
    assert sorted(found.rank[found.grid].tolist()) == [1, 2, 3]
    assert store.traffic.marked().grid == 1
    rows = store.sql.query(pages_seen(10)).to_pylist()
    assert [row["grid"] for row in sorted(rows, key=lambda row: str(row["person"]))] == [False, False, True]

    class Reading:
        def sql(self, statement: str) -> Any:
            return store.sql.query(statement)

    log = home.read(Reading(), 10).log  # type: ignore[arg-type]
    assert sorted(log.rank.max(axis=1).tolist()) == [3, 3, GRID + 3]
    assert log.counts().mean_rank.tolist() == [1.0, 2.0, 3.0]


def test_filtered_pages_teach(store: Store) -> None:
    """A filter leaves the order to the ranker, so that the page counts like any other, and is counted beside."""
    _fill(store, [query("q1", filtered=True)], {"q1": "d1"})
    assert store.evidence.collect(NOW + DAY, PLAIN).evidence.clicks.sum() > 0
    assert store.traffic.marked().filtered == 1


def test_no_reader_for_learning_asks_the_table_itself() -> None:
    """Whoever learns reads `teaching_pages`: a page that must not teach is left out in one place."""
    learning = [
        *(ROOT / "flywheel" / "store" / "training").glob("*.py"),
        *(ROOT / "flywheel" / "store" / "clicks").glob("*.py"),
    ]
    assert len(learning) > 5
    asks = re.compile(r"\b(?:from|join)\s+(?:queries|impressions)\b", re.IGNORECASE)
    assert [path.name for path in learning if asks.search(path.read_text("utf-8"))] == []
