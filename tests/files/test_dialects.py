"""Exports of web analytics become UBI: one story, told by three tools, gives the same pages and events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumers.decode import Decoder
from flywheel.app import open_local
from flywheel.cli import main
from flywheel.files.dialects import FORMATS, reader
from flywheel.files.skipped import ImportCount
from flywheel.files.snowplow import COLUMNS
from flywheel.settings.load import Mapping, Signals

START_MS = 1_612_069_510_766
STORY: list[tuple[int, str, dict[str, Any]]] = [
    (0, "other", {"name": "opened"}),
    (1, "search", {"term": "red shoe"}),
    (2, "list", {"list": "Search Results", "items": ["b", "a"], "places": [2, 1]}),
    (3, "list", {"list": "You may like", "items": ["r"], "places": [1]}),
    (4, "search", {"term": "red shoe"}),  # a second page of the same results
    (5, "click", {"items": ["a"], "places": [1]}),
    (6, "add_to_cart", {"items": ["a"]}),
    (60, "search", {"term": "mug"}),
    (61, "purchase", {"items": ["a", "z"]}),
    (3_000, "click", {"items": ["b"], "places": [2]}),  # long after any search
]
Row = dict[str, Any]


def _ga4(second: int, what: str, about: Row) -> Row:
    names = {"search": "view_search_results", "list": "view_item_list", "click": "select_item"}
    typed = {"ga_session_id": {"int_value": "661084800"}}
    typed |= {"search_term": {"string_value": about["term"]}} if "term" in about else {}
    typed |= {"item_list_name": {"string_value": about["list"]}} if "list" in about else {}
    places = about.get("places") or [None] * len(about.get("items", []))
    return {
        "event_name": names.get(what, about.get("name", what)),
        "event_timestamp": str((START_MS + second * 1_000) * 1_000),
        "event_params": [{"key": key, "value": value} for key, value in typed.items()],
        "user_pseudo_id": "1026454.4271112504",
        "items": [
            {"item_id": item, "index": place, "item_list_index": "(not set)"}
            for item, place in zip(about.get("items", []), places, strict=True)
        ],
    }


def _segment(second: int, what: str, about: Row) -> Row:
    names = {
        "search": "Products Searched", "list": "Product List Viewed", "click": "Product Clicked",
        "add_to_cart": "Product Added", "purchase": "Order Completed",
    }  # fmt: skip
    places = about.get("places") or [None] * len(about.get("items", []))
    products = [
        {"product_id": item, "position": place} for item, place in zip(about.get("items", []), places, strict=True)
    ]
    properties: Row = {"query": about["term"]} if "term" in about else {}
    properties |= {"list_id": about["list"]} if "list" in about else {}
    properties |= products[0] if what in ("click", "add_to_cart") else {"products": products} if products else {}
    return {
        "type": "track",
        "event": names.get(what, about.get("name")),
        "messageId": f"m{second}",
        "anonymousId": "23adfd82",
        "timestamp": f"2021-01-31T05:{5 + second // 60:02}:{second % 60:02}.766Z",
        "properties": properties,
    }


def _snowplow(second: int, what: str, about: Row) -> Row:
    def entity(name: str, data: Row) -> Row:
        return {"schema": f"iglu:com.snowplowanalytics.snowplow/{name}/jsonschema/1-0-0", "data": data}

    types = {"list": "list_view", "click": "list_click", "purchase": "transaction"}
    about_it: Row | None = entity("snowplow_ecommerce_action", {"type": types.get(what, what)})
    if what == "search":
        about_it = entity("site_search", {"terms": about["term"].split()})
    elif what == "other":
        about_it = None
    elif "list" in about:
        about_it = entity("snowplow_ecommerce_action", {"type": "list_view", "name": about["list"]})
    places = about.get("places") or [None] * len(about.get("items", []))
    products = [
        entity("product", {"id": item, "position": place})
        for item, place in zip(about.get("items", []), places, strict=True)
    ]
    return {
        "event": "unstruct" if about_it else "page_view",
        "event_id": f"c6ef3124-{second}",
        "collector_tstamp": f"2021-01-31 05:{5 + second // 60:02}:{second % 60:02}.766",
        "domain_userid": "bc2e92ec6c204a14",
        "domain_sessionid": "d3a9bd4a",
        "unstruct_event": about_it and {"schema": "iglu:…/unstruct_event/jsonschema/1-0-0", "data": about_it},
        "contexts": {"schema": "iglu:…/contexts/jsonschema/1-0-1", "data": products} if products else None,
    }


MAKERS: dict[str, Callable[[int, str, Row], Row]] = {"ga4": _ga4, "segment": _segment, "snowplow": _snowplow}


def _rows(name: str) -> list[Row]:
    return [MAKERS[name](*moment) for moment in STORY]


def _lines(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def _tsv(path: Path, rows: list[Row]) -> Path:
    def cell(value: Any) -> str:
        return "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)

    lines = ("\t".join(cell(row.get(column)) for column in COLUMNS) for row in rows)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return path


def _read(path: Path, name: str) -> tuple[list[Row], ImportCount]:
    tally = ImportCount()
    return list(reader(name)(path, tally)), tally


def _told(records: list[Row]) -> list[tuple[Any, ...]]:
    """The story again: pages by what was asked, events by what led to them."""
    terms = {record["query_id"]: record["user_query"] for record in records if "user_query" in record}
    told: list[tuple[Any, ...]] = []
    for record in records:
        if "user_query" in record:
            told.append((record["user_query"], *record.get("query_response_hit_ids", [])))
        else:
            item = record["event_attributes"]["object"]["object_id"]
            told.append((record["action_name"], item, terms.get(record.get("query_id", ""))))
    return told


EXPECTED = [
    ("red shoe",), ("red shoe", "a", "b"), ("red shoe",), ("click", "a", "red shoe"), ("add_to_cart", "a", "red shoe"),
    ("mug",), ("purchase", "a", "red shoe"), ("purchase", "z", None), ("click", "b", None),
]  # fmt: skip


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("shuffled", [False, True])
def test_each_event_belongs_to_the_search_that_led_to_it(name: str, shuffled: bool, tmp_path: Path) -> None:
    """Also where the export is in no order: lists and clicks follow the search before them, what is bought the click
    that found it, and what comes half an hour later follows none. Lists of recommendations are no results."""
    rows = _rows(name)
    rows = rows[::-1] if shuffled else rows
    path = _tsv(tmp_path / "part-00000.gz", rows) if name == "snowplow" else _lines(tmp_path / "export.jsonl", rows)
    records, tally = _read(path, name)
    assert sorted(_told(records), key=str) == sorted(EXPECTED, key=str)
    assert (tally.read, tally.reasons.total()) == (len(STORY), 2)
    assert len({record["query_id"] for record in records if "user_query" in record}) == 2


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_decoder_takes_every_record_whole(name: str, tmp_path: Path) -> None:
    """Nothing is refused and no field is left out; the two records of the second page of results are one page."""
    decoder = Decoder(Signals(), str, 1_048_576)
    for record in _read(_lines(tmp_path / "export.jsonl", _rows(name)), name)[0]:
        read = decoder.feedback(json.dumps(record).encode())
        assert (read.ignored, read.client_key is not None) == ((), True)


def test_what_a_shop_sends_beside_is_there_for_the_mapping(tmp_path: Path) -> None:
    """`[mapping]` finds the tool's own fields under `properties`."""
    row = _segment(5, "click", {"items": ["a"], "places": [1]})
    row["properties"]["catalogue_number"] = "N-17"
    records, _ = _read(_lines(tmp_path / "export.jsonl", [row]), "segment")
    mapping = Mapping(events={"event_attributes.object.object_id": "properties.catalogue_number"})
    decoder = Decoder(Signals(), str, 1_048_576, mapping)
    read = decoder.feedback(json.dumps(records[0]).encode())
    assert read.doc_id == "N-17"  # type: ignore[union-attr]


def test_an_id_that_the_product_gave_is_the_pages(tmp_path: Path) -> None:
    """A `query_id` or `search_id` among the parameters wins over the order of time."""
    rows = _rows("segment")
    rows[1]["properties"]["query_id"] = "own-1"
    rows[9]["properties"]["queryID"] = "own-1"
    records, _ = _read(_lines(tmp_path / "export.jsonl", rows), "segment")
    assert {records[number]["query_id"] for number in (0, 3, -1)} == {"own-1"}


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("ga4", {"event_name": "search", "event_timestamp": "soon"}, "event_timestamp: soon"),
        ("ga4", {"event_timestamp": 1}, "no event_name"),
        ("segment", {"type": "identify", "userId": "u"}, "a call of identify"),
        ("segment", {"type": "track", "event": "Product Clicked", "timestamp": "9" * 400}, "where a time is expected"),
        ("segment", {"event": "Products Searched", "timestamp": "2021-01-31T05:05:10Z"}, "without a search term"),
        ("snowplow", {"collector_tstamp": "2021-01-31 05:05:10"}, "no event_id"),
        ("snowplow", {"event_id": "e", "derived_tstamp": ["x"]}, "a list where a time is expected"),
        ("ga4", {"event_name": "select_item", "event_timestamp": 10**15, "items": "no list"}, "names no product"),
        ("ga4", {"event_name": ["a"], "event_timestamp": 10**15}, "a list where text is expected"),
    ],
)
def test_a_row_that_says_nothing_is_counted_with_its_reason(name: str, row: Row, reason: str, tmp_path: Path) -> None:
    """Whatever its cells hold, it ends no import."""
    records, tally = _read(_lines(tmp_path / "export.jsonl", [row]), name)
    assert (records, [reason in found for found in tally.reasons]) == ([], [True])


def test_a_file_of_another_tool_is_refused_row_by_row(tmp_path: Path) -> None:
    """Lines that have not the 131 cells of an enriched event are counted with their place."""
    path = tmp_path / "events.tsv"
    path.write_text("a\tb\n\nweb\tc\td\n")
    records, tally = _read(path, "snowplow")
    assert (records, dict(tally.places)) == (
        [],
        {
            "2 cells; an enriched event has 131": ["events.tsv:1"],
            "3 cells; an enriched event has 131": ["events.tsv:3"],
        },
    )


def test_a_column_for_each_schema_is_read_too(tmp_path: Path) -> None:
    """As Snowplow's analytics SDKs and loaders write events."""
    shared = {"event_id": "1", "collector_tstamp": "2021-01-31T05:05:10.766Z", "domain_sessionid": "s"}
    action = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
    rows = [
        shared | {"unstruct_event_com_snowplowanalytics_snowplow_site_search_1": {"terms": ["red", "shoe"]}},
        shared
        | {
            "event_id": "2",
            "collector_tstamp": "2021-01-31T05:05:12Z",
            action: {"type": "list_click"},
            "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1": [{"id": "a", "position": 1}],
        },
    ]
    assert _told(_read(_lines(tmp_path / "e.jsonl", rows), "snowplow")[0]) == [
        ("red shoe",),
        ("click", "a", "red shoe"),
    ]


def test_parquet_of_ga4_is_imported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BigQuery's table as Parquet, with lists wrapped or plain: pages get their hits, also in a later batch, and
    another import adds nothing."""
    rows = _rows("ga4")
    for row in rows:
        row["event_timestamp"] = int(row["event_timestamp"])
        for parameter in row["event_params"]:
            parameter["value"] = {"string_value": None, "int_value": None, **parameter["value"]}
        row["event_params"] = {"list": [{"element": parameter} for parameter in row["event_params"]]}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ga4.parquet")
    home = str(tmp_path / "home")
    assert main(["--home", home, "init"]) == 0
    capsys.readouterr()
    told = []
    for _ in range(2):
        assert (
            main(["--home", home, "import", "feedback", str(tmp_path / "ga4.parquet"), "--format", "ga4", "--json"])
            == 0
        )
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [(answer["read"], answer["stored"]) for answer in told] == [(10, 7), (10, 0)]
    with open_local(Path(home), {}) as local:
        pages = local.sql("SELECT text, hit_ids FROM queries ORDER BY text").to_pylist()
        events = local.sql("SELECT kind, doc_id, query_id IS NOT NULL AS found FROM feedback ORDER BY ts, doc_id")
    assert pages == [{"text": "mug", "hit_ids": []}, {"text": "red shoe", "hit_ids": ["a", "b"]}]
    assert [tuple(row.values()) for row in events.to_pylist()] == [
        ("click", "a", True), ("add_to_cart", "a", True), ("purchase", "a", True), ("purchase", "z", False),
        ("click", "b", False),
    ]  # fmt: skip


def test_hits_of_a_later_batch_complete_a_stored_page(tmp_path: Path) -> None:
    """However old the page is, and each batch is told what it changed."""
    page = {"query_id": "q", "user_query": "mug", "client_id": "c", "timestamp": "2019-01-31T05:05:10Z"}
    shown = page | {"query_response_hit_ids": ["a", "b"]}
    home = tmp_path / "home"
    assert main(["--home", str(home), "init"]) == 0
    with open_local(home, {}) as local:
        told = [local.import_records("feedback", [record]) for record in (page, shown, shown, page)]
        (row,) = local.sql("SELECT hit_ids FROM queries").to_pylist()
    assert row["hit_ids"] == ["a", "b"]
    assert [(answer["stored"], answer["merged"]) for answer in told] == [(1, 0), (0, 1), (0, 0), (0, 0)]
