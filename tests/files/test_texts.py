"""Text files are read whatever program and country they come from, and a spoilt row spoils no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.files.readers import ImportCount, ImportFailed, read_documents, rows

FORMS = ["d.csv", "d.tsv", "d.jsonl", "d.json", "d.parquet", "d.csv.gz"]
TWO = [{"doc_id": "a", "title": "Grün", "text": "0,5"}, {"doc_id": "b", "title": "", "text": "zwei\nZeilen"}]


def _read(path: Path) -> tuple[list[dict[str, Any]], ImportCount]:
    tally = ImportCount()
    return list(rows(path, tally)), tally


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep=?\n"])
def test_csv_of_any_program_reads_alike(tmp_path: Path, encoding: str, separator: str, first: str) -> None:
    """Semicolons, tabs, bars, byte order marks, UTF-16, Excel's first line, blanks around names: the same rows."""
    lines = [[" doc_id ", "title", "text "], ["a", "Grün", '"0,5"'], ["b", "", '"zwei\nZeilen"']]
    text = first.replace("?", separator) + "".join(separator.join(line) + "\r\n" for line in lines)
    (tmp_path / "d.csv").write_bytes(text.encode(encoding))
    found, tally = _read(tmp_path / "d.csv")
    assert found == TWO
    assert tally.reasons == {}


def test_a_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    """A cell over several lines moves no other row's number, and too many cells name the cure."""
    (tmp_path / "d.csv").write_text('doc_id,text\na,"one\ntwo"\nb,x,y\n\nc,z\n')
    found, tally = _read(tmp_path / "d.csv")
    assert [row["doc_id"] for row in found] == ["a", "c"]
    ((reason, places),) = tally.places.items()
    assert "needs quotes" in reason
    assert places == ["d.csv:4"]


def test_a_quote_that_never_closes_is_refused_with_its_line(tmp_path: Path) -> None:
    """Half a file must not become one cell without a word."""
    (tmp_path / "d.csv").write_text('doc_id,text\na,one\nb,"two\nc,three\nd,four\n')
    with pytest.raises(ImportFailed, match=r"d\.csv:3: a quote that opens here never closes"):
        _read(tmp_path / "d.csv")


def test_two_columns_of_one_name_lose_nothing(tmp_path: Path) -> None:
    """The first keeps the name, the second gets a number."""
    (tmp_path / "d.csv").write_text("doc_id,text,text,text_2\n1,a,b,c\n")
    assert _read(tmp_path / "d.csv")[0] == [{"doc_id": "1", "text": "a", "text_3": "b", "text_2": "c"}]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("d.csv", ["doc_id,text", "a,x", "b,Größe", "c,x"]),
        ("d.jsonl", ["", '{"doc_id": "a", "text": "x"}', '{"_id": "b", "text": "Größe"}', '{"id": "c", "text": "x"}']),
    ],
)
def test_a_byte_that_is_no_utf_8_spoils_its_row_alone(tmp_path: Path, name: str, lines: list[str]) -> None:
    """The row is skipped with file and line, the rows around it are read."""
    (tmp_path / name).write_bytes("\n".join(lines).encode("latin-1"))
    tally = ImportCount()
    assert [row["doc_id"] for row in read_documents(tmp_path / name, tally)] == ["a", "c"]
    assert tally.places == {"text: byte 0xf6 is not UTF-8; save the file as UTF-8": [f"{name}:3"]}


def test_utf_16_without_a_mark_names_the_cure(tmp_path: Path) -> None:
    """It is refused instead of read as UTF-8 with NULs."""
    (tmp_path / "d.csv").write_bytes("doc_id,text\n1,a\n".encode("utf-16-le"))
    with pytest.raises(ImportFailed, match="save it as UTF-8"):
        _read(tmp_path / "d.csv")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TWO),
        json.dumps(TWO, indent=2),
        "\n".join(json.dumps(row) for row in TWO),
        json.dumps({"took": 1, "hits": {"total": {"value": 2}, "hits": [{"_source": row} for row in TWO]}}),
    ],
)
def test_json_is_a_list_or_lines_or_a_search_answer(tmp_path: Path, text: str) -> None:
    """What a file called .json holds decides how it is read."""
    (tmp_path / "d.json").write_text(text)
    assert _read(tmp_path / "d.json")[0] == TWO


def test_one_object_is_one_row(tmp_path: Path) -> None:
    """Also over several lines."""
    (tmp_path / "d.json").write_text(json.dumps(TWO[0], indent=2))
    assert _read(tmp_path / "d.json")[0] == TWO[:1]


def test_broken_json_is_refused_with_its_line(tmp_path: Path) -> None:
    """A list that does not parse names the line."""
    (tmp_path / "d.json").write_text('[\n{"doc_id": "a"},\n{"doc_id": }\n]')
    with pytest.raises(ImportFailed, match=r"d\.json:3: no JSON"):
        _read(tmp_path / "d.json")


@pytest.mark.parametrize("name", ["d.jsonl", "d.json"])
def test_a_spoilt_record_leaves_the_others(tmp_path: Path, name: str) -> None:
    """NaN, deep nesting and numbers of 5,000 digits are reasons, each with its place."""
    records = ['{"doc_id": "a"}', '{"score": NaN}', '{"doc_id": "b"}']
    if name == "d.jsonl":
        records += ["[" * 100_000, '{"n": ' + "1" * 5_000 + "}", '{"doc_id": "c"}']
    (tmp_path / name).write_text("\n".join(records) if name == "d.jsonl" else f"[{','.join(records)}]")
    found, tally = _read(tmp_path / name)
    assert [row["doc_id"] for row in found] == (["a", "b", "c"] if name == "d.jsonl" else ["a", "b"])
    assert tally.read == len(records)
    assert tally.reasons.total() == len(records) - len(found)
    assert tally.places["not JSON: NaN is no number there"] == [f"{name}:2" if name == "d.jsonl" else f"{name} item 2"]


@given(content=st.binary(max_size=400), name=st.sampled_from(FORMS))
def test_any_bytes_are_read_or_refused(content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No file ends in anything but rows, reasons, or a refusal that names it."""
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    tally, found, refusal = ImportCount(), [], name
    try:
        found.extend(rows(path, tally))
    except ImportFailed as refused:
        refusal = str(refused)
    assert name in refusal
    assert len(found) + tally.reasons.total() >= tally.read
