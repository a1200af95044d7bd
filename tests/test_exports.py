"""What is exported is whole, in the form that its ending names, and labels come back as annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from flywheel.exports import ExportFailed, label_tasks, statement, write
from flywheel.imports import Tally, read_annotations

ANSWER = pa.table({"version": ["a", "b"], "hits": [["x", "y"], []], "score": [0.5, None]})


def test_each_ending_holds_every_row(tmp_path: Path) -> None:
    """Parquet keeps the types, JSON lines the values, CSV the cells; nothing temporary is left."""
    for name in ("t.parquet", "t.jsonl", "t.csv"):
        assert write(ANSWER, tmp_path / name) == 2
    assert pq.read_table(tmp_path / "t.parquet").equals(ANSWER)
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == ANSWER.to_pylist()
    assert pc.read_csv(tmp_path / "t.csv")["hits"].to_pylist() == ['["x", "y"]', "[]"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.jsonl", "t.parquet"]


@pytest.mark.parametrize(("value", "name"), [(ANSWER, "t.xlsx"), ([{"data": {}}], "t.csv")])
def test_an_ending_that_cannot_be_written_is_refused(tmp_path: Path, value: object, name: str) -> None:
    """The message says which endings there are, and nothing is written."""
    with pytest.raises(ExportFailed, match=r"\.json"):
        write(value, tmp_path / name)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_table_s_name_cannot_carry_sql() -> None:
    """Only a plain name becomes part of the statement."""
    assert statement("decisions", 5) == "select * from decisions limit 5"
    with pytest.raises(ExportFailed):
        statement("decisions; drop table models", None)


def test_labels_go_out_and_come_back(tmp_path: Path) -> None:
    """A task that an annotator filled in is read as a judgement of the same query and document."""
    answer = pa.table({"query": ["q"], "doc_id": ["d"], "title": ["T"], "text": ["x"], "posterior": [0.5]})
    assert write(label_tasks(answer), tmp_path / "labels.json") == 1
    tasks = json.loads((tmp_path / "labels.json").read_text())
    tasks[0]["annotations"] = [{"result": [{"value": {"choices": ["relevant"]}}]}]
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    assert list(read_annotations(tmp_path / "done.json", Tally())) == [{"query": "q", "doc_id": "d", "grade": 1.0}]
