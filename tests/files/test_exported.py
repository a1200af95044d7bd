"""Records come out of the wrapping that search engines put around them, with the id that the wrapping gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.files.readers import ImportCount, read_documents, read_feedback

ALPHA = {"title": "Alpha", "text": "First text."}
QUERY = {"query_id": "x1", "user_query": "copy a list", "client_id": "c1"}
EVENT = {"action_name": "click", "query_id": "x1"}


def _lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _documents(path: Path) -> tuple[list[tuple[str, str, bool]], ImportCount]:
    tally = ImportCount()
    return [(row["doc_id"], row["title"], row["deleted"]) for row in read_documents(path, tally)], tally


def test_hits_of_a_dump_give_source_and_id(tmp_path: Path) -> None:
    """elasticdump's lines: the outer `_id` counts where the source has no doc_id of its own."""
    dump = _lines(
        tmp_path / "d.jsonl",
        {"_index": "docs", "_id": "e1", "_score": 1, "_source": ALPHA},
        {"_index": "docs", "_id": "e2", "_source": ALPHA | {"doc_id": "own", "id": 7}},
    )
    assert _documents(dump)[0] == [("e1", "Alpha", False), ("own", "Alpha", False)]


def test_the_bulk_form_gives_ids_and_deletions(tmp_path: Path) -> None:
    """An action line names the document after it; a deletion is a document that goes; an update is no whole one."""
    bulk = _lines(
        tmp_path / "d.ndjson",
        {"index": {"_id": "e1"}}, ALPHA, {"create": {"_id": "e2"}}, ALPHA, {"delete": {"_id": "e3"}},
        {"update": {"_id": "e4"}}, {"doc": {"title": "Beta"}}, {"index": {}}, ALPHA,
    )  # fmt: skip
    found, tally = _documents(bulk)
    assert found == [("e1", "Alpha", False), ("e2", "Alpha", False), ("e3", "", True)]
    assert (tally.read, tally.reasons.total()) == (5, 2)
    assert sorted(place for places in tally.places.values() for place in places) == ["d.ndjson:7", "d.ndjson:9"]


@pytest.mark.parametrize("wrap", [lambda record: {"_id": "1", "_source": record}, lambda record: record])
def test_feedback_is_the_source_as_it_is(tmp_path: Path, wrap: Any) -> None:
    """An id of the wrapping adds nothing to the record, so that it is the same event as over the wire."""
    assert list(read_feedback(_lines(tmp_path / "u.ndjson", wrap(QUERY), wrap(EVENT)), ImportCount())) == [QUERY, EVENT]


def test_columns_named_by_their_path_are_the_nested_record(tmp_path: Path) -> None:
    """A table holds UBI too: dotted names, JSON in cells, and no empty cell."""
    (tmp_path / "u.csv").write_text(
        "action_name,user_query,query_id,query_response_hit_ids,event_attributes.object.object_id,event_attributes\n"
        ',copy a list,x1,"[""d1"", ""d2""]",,\n'
        'click,,x1,,d1,"{""position"": {""ordinal"": 1}}"\n'
    )
    assert list(read_feedback(tmp_path / "u.csv", ImportCount())) == [
        {"user_query": "copy a list", "query_id": "x1", "query_response_hit_ids": ["d1", "d2"]},
        EVENT | {"event_attributes": {"object": {"object_id": "d1"}, "position": {"ordinal": 1}}},
    ]


def test_a_cell_that_has_no_form_is_nothing_where_nobody_reads_it(tmp_path: Path) -> None:
    """A table of events with bytes beside them is events, and JSON can carry each."""
    table = {"action_name": ["click"], "query_id": [b"x1"], "raw": [b"\xff"], "score": [float("inf")]}
    pq.write_table(pa.table(table), tmp_path / "u.parquet")
    assert list(read_feedback(tmp_path / "u.parquet", ImportCount())) == [EVENT | {"raw": None, "score": None}]


def test_half_a_character_spoils_only_what_is_used(tmp_path: Path) -> None:
    """In a field that nobody reads it is marked; in a query it is a reason with file and line."""
    dump = _lines(tmp_path / "u.jsonl", EVENT | {"agent": "cut \ud83d"}, QUERY | {"user_query": "cut \ud83d"})
    found = list(read_feedback(dump, tally := ImportCount()))
    assert found == [EVENT | {"agent": "cut \ufffd"}]
    assert tally.places == {"user_query: half a character, or bytes that are no UTF-8": ["u.jsonl:2"]}
