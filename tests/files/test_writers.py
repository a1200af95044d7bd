"""What is exported is whole, in the form that its ending names, and labels come back as annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from flywheel.files.writers import ExportFailed, write
from flywheel.store.published.questions import exported

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
    assert exported("decisions", 5) == "select * from decisions limit 5"
    with pytest.raises(ValueError, match="decisions; drop"):
        exported("decisions; drop table models", None)
