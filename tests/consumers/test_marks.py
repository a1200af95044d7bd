"""How a page was made, in the shapes that products send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumers.decode import Decoder
from flywheel.events import Query
from flywheel.settings.load import Signals


def page(hits: list[str], **attributes: Any) -> Query:
    fields = {"query_id": "q", "user_query": "shoes", "timestamp": 1_700_000_000_000}
    message = {**fields, "query_response_hit_ids": hits, "query_attributes": attributes}
    return Decoder(Signals(), lambda person: person, 10_000).query(json.dumps(message).encode())


@pytest.mark.parametrize(
    ("sort", "field"),
    [
        (None, None),
        ("", None),
        (False, None),
        ([], None),
        ("relevance", None),
        ("_score:desc", None),
        ("Best match", None),
        ([{"_score": "desc"}, {"price": "asc"}], None),
        ({"field": "relevance"}, None),
        ("price_asc", "price_asc"),
        ("-price", "-price"),
        ([{"price": {"order": "asc"}}], "price"),
        ({"field": "newest", "order": "desc"}, "newest"),
        (True, "True"),
    ],
)
def test_a_page_is_sorted_unless_relevance_comes_first(sort: Any, field: str | None) -> None:
    """The first field that a page is sorted by decides, in the shapes of search engines and shops."""
    assert page(["a"], sort=sort).sorted_by == field


@pytest.mark.parametrize(
    ("filters", "set_"),
    [
        (None, False),
        ({}, False),
        ("", False),
        ({"brand": [], "in_stock": False}, False),
        ({"brand": ["x"]}, True),
        ({"price_from": 0}, True),
        ("brand:x", True),
        ([{"term": {"brand": "x"}}], True),
        (True, True),
    ],
)
def test_a_filter_that_is_not_set_is_none(filters: Any, set_: bool) -> None:
    """A page counts as filtered where any filter holds a value."""
    assert page(["a"], filters=filters).filtered is set_


@pytest.mark.parametrize(
    ("places", "documents"),
    [
        (None, ()),
        ([], ()),
        (False, ()),
        ([1, 3], ("7", "c")),
        (["c", "elsewhere"], ("c", "elsewhere")),
        ([True, False, True], ("7", "c")),
        (True, ("7", "b", "c")),
    ],
)
def test_paid_places_are_ranks_ids_or_flags(places: Any, documents: tuple[str, ...]) -> None:
    """Whole numbers are ranks, text is ids, also where ids look like numbers."""
    assert page(["7", "b", "c"], sponsored=places).sponsored == documents


@pytest.mark.parametrize(("hits", "places"), [(["a"], [2]), (["a"], [0]), ([], [1]), (["a"], {"x": 1}), (["a"], [1.5])])
def test_where_paid_places_cannot_be_told_all_are_paid(hits: list[str], places: Any) -> None:
    """Else a page would teach what somebody paid for; the field is noted, and the page is kept."""
    found = page(hits, sponsored=places)
    assert found.sponsored == tuple(hits)
    assert [note.field for note in found.ignored] == ["query_attributes.sponsored"]


@pytest.mark.parametrize(("sent", "read"), [("Grid", "grid"), (" list ", "list"), (None, None), (3, None), ("", None)])
def test_a_layout_is_a_name(sent: Any, read: str | None) -> None:
    """In lower case, and what is no name is none."""
    assert page(["a"], layout=sent).layout == read
