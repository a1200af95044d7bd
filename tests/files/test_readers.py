"""Files that people bring are read whatever their form, and every skipped row has a reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.files.readers import ImportCount, ImportFailed, batches, read_documents, read_feedback

ROWS = [{"doc_id": "a", "title": "A", "text": "first, with comma"}, {"doc_id": "b", "title": "", "text": "second"}]
EXPECTED = [
    {"doc_id": "a", "title": "A", "text": "first, with comma", "deleted": False},
    {"doc_id": "b", "title": "", "text": "second", "deleted": False},
]


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def _csv(path: Path) -> None:
    path.write_bytes('\ufeffdoc_id,title,text\na,A,"first, with comma"\nb,,second\n'.encode())


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


def _jsonl_gz(path: Path) -> None:
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()))


@pytest.mark.parametrize(
    ("name", "write"), [("d.jsonl", _jsonl), ("d.csv", _csv), ("d.parquet", _parquet), ("d.jsonl.gz", _jsonl_gz)]
)
def test_every_form_gives_the_same_documents(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    """JSONL, CSV with a byte-order mark, Parquet and gz all read alike."""
    write(tmp_path / name)
    assert list(read_documents(tmp_path / name, tally := ImportCount())) == EXPECTED
    assert (tally.read, dict(tally.reasons)) == (2, {})


def test_a_skipped_row_has_its_reason(tmp_path: Path) -> None:
    """Bad rows are counted by reason, good ones around them are kept."""
    path = tmp_path / "d.jsonl"
    lines = [
        '{"_id": 1, "body": "x", "updated_at": 5}',
        "{oops",
        "[1]",
        '{"title": "no id"}',
        '{"id": "e"}',
        '{"id": "f", "deleted": true}',
    ]
    path.write_text("\n".join(lines))
    found = list(read_documents(path, tally := ImportCount()))
    assert [record["doc_id"] for record in found] == ["1", "f"]
    assert found[0]["updated_at"] == 5
    assert found[1]["deleted"] is True
    assert tally.read == len(lines)
    assert tally.reasons == {"not JSON": 1, "not an object": 1, "no doc_id": 1, "neither title nor text": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.xlsx", b"", "unknown ending"),
        ("d.parquet", b"no", "is no Parquet file"),
        ("d.csv", b"name,words\nx,y\n", "has no doc_id .*; it has name, words"),
        ("d.jsonl.gz", b"plain", "cannot be read"),
        ("d.jsonl", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """The whole file is refused with its name and the cause, not with a traceback."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportFailed, match=said):
        list(read_documents(tmp_path / name, ImportCount()))


def test_feedback_drops_the_action_lines_of_bulk_files(tmp_path: Path) -> None:
    """OpenSearch's bulk form gives its sources alone; what each of them is, is not judged here."""
    path = tmp_path / "ubi.ndjson"
    path.write_text(
        '{"index": {"_index": "q"}}\n{"user_query": "x"}\n{"index": {}}\n{"action_name": "click"}\n{"a": 1}\n'
    )
    found = list(read_feedback(path, tally := ImportCount()))
    assert found == [{"user_query": "x"}, {"action_name": "click"}, {"a": 1}]
    assert (tally.read, sum(tally.reasons.values())) == (3, 0)


def test_batches_hold_every_record_once() -> None:
    """Nothing is lost or doubled at the seams."""
    assert [len(batch) for batch in batches(({"i": i} for i in range(7)), 3)] == [3, 3, 1]
    assert [r["i"] for batch in batches(({"i": i} for i in range(7)), 3) for r in batch] == list(range(7))


@pytest.mark.shared
def test_a_recorded_shop_demo_is_read_whole() -> None:
    """The recorded bulk file gives its 473 queries and 3,448 events."""
    folder = Path(__file__).parents[3] / "shared/data/ubi"
    if not folder.is_dir():
        pytest.skip("the shared recordings are not here")
    found = list(read_feedback(folder / "ubi_queries_events.ndjson.gz", ImportCount()))
    assert sum("action_name" in record for record in found) == 3448
    assert sum("action_name" not in record for record in found) == 473
