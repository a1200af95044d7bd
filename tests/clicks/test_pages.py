from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.pages import LAST_RANK, ClickLog, ShownPage


def _log(*pages: ShownPage) -> ClickLog:
    return ClickLog.of(pages)


def test_a_page_is_a_row_of_pairs_ranks_and_clicks() -> None:
    """Documents stand where the page had them, the rest of the row is empty, and a click elsewhere is left out."""
    log = _log(
        ShownPage("b", "anna", 1, ["x", "y"], {"y", "unlisted"}),
        ShownPage("a", "bert", 2, ["y", "z", "x"], set(), ranks=[11, 12, 13]),
    )
    assert log.queries == ("a", "b")
    assert [[log.documents[log.pair_document[p]] for p in row if p >= 0] for row in log.pair] == [
        ["x", "y"],
        ["y", "z", "x"],
    ]
    assert log.rank.tolist() == [[1, 2, 0], [11, 12, 13]]
    assert log.clicked.tolist() == [[False, True, False], [False, False, False]]
    assert log.pairs == 5
    assert log.shown.sum() == 5


def test_a_document_that_a_page_lists_twice_counts_once_at_the_better_rank() -> None:
    """Two passages of a document are one impression, and what stands far down has the last rank."""
    log = _log(ShownPage("a", "anna", 1, ["x", "y", "x"], {"x"}, ranks=[900, 2, 5]))
    assert log.rank.tolist() == [[2, 5, 0]]
    assert log.clicked.tolist() == [[False, True, False]]
    assert _log(ShownPage("a", "anna", 1, ["x"], set(), ranks=[900])).rank.max() == LAST_RANK


def test_counts_are_those_of_a_plain_loop() -> None:
    """Impressions, clicks, mean rank, the query's pages and expected clicks agree with counting page by page."""
    rng = np.random.default_rng(0)
    pages = []
    for number in range(200):
        shown = [f"d{d}" for d in rng.permutation(6)[: rng.integers(2, 6)]]
        pages.append(
            ShownPage(f"q{rng.integers(3)}", f"p{number}", number, shown, {d for d in shown if rng.random() < 0.3})
        )
    log = _log(*pages)
    counts = log.counts()
    usual = {
        rank: np.mean([page.documents[rank - 1] in page.clicked for page in pages if len(page.documents) >= rank])
        for rank in range(1, 6)
    }
    for pair in range(log.pairs):
        query, doc = log.queries[log.pair_query[pair]], log.documents[log.pair_document[pair]]
        own = [page for page in pages if page.query == query and doc in page.documents]
        ranks = [list(page.documents).index(doc) + 1 for page in own]
        assert counts.impressions[pair] == len(own)
        assert counts.clicks[pair] == sum(doc in page.clicked for page in own)
        assert counts.mean_rank[pair] == pytest.approx(np.mean(ranks))
        assert counts.pages[pair] == sum(page.query == query for page in pages)
        assert counts.expected[pair] == pytest.approx(sum(usual[rank] for rank in ranks))
        assert counts.coec[pair] == pytest.approx(counts.clicks[pair] / counts.expected[pair])


def test_distance_counts_from_the_last_click_above() -> None:
    """Nothing above is 0, the next place is 1, and a click starts anew."""
    log = _log(ShownPage("a", "anna", 1, list("uvwxyz"), {"v", "x"}))
    assert log.distance().tolist() == [[0, 0, 1, 2, 1, 2]]
