"""Writes files that leave an installation: any table, and the pairs most worth a judgement as labelling tasks.

It asks for no data; the caller brings them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.files.answers import named, plain

if TYPE_CHECKING:
    import pyarrow as pa


DRAWN = ("sample", "stratum", "stratum_size", "population", "inclusion")
"""How a pair of a sample was drawn; see `flywheel.store.published.sampling`."""


class ExportFailed(ValueError):  # noqa: N818 - reads as what happened
    """The file cannot be written as asked. The message says what can be."""


def label_tasks(answer: pa.Table) -> list[dict[str, Any]]:
    """Label Studio tasks. `flywheel import annotations` reads what comes back.

    What says how a pair was drawn stands in the data, because not every export of Label Studio has the rest.
    """
    shown = ("query", "doc_id", "title", "text", *DRAWN)
    return [
        {
            "data": {name: row[name] for name in shown if name in row},
            "meta": {name: value for name, value in row.items() if name not in shown and value is not None},
        }
        for row in answer.to_pylist()
    ]


def write(value: pa.Table | list[dict[str, Any]], path: Path) -> int:
    """Write beside the target and rename, in the form that the ending names. Returns the rows written.

    Raises:
        ExportFailed: an ending that is none of .parquet, .csv, .jsonl (tasks: .json).
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        rows = _write_tasks(value, path, temporary) if isinstance(value, list) else _write_table(value, path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _write_tasks(tasks: list[dict[str, Any]], path: Path, target: Path) -> int:
    if path.suffix != ".json":
        raise ExportFailed(f"labelling tasks are written as .json, not {path.suffix or path.name}")
    target.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), "utf-8")
    return len(tasks)


def _write_table(answer: pa.Table, path: Path, target: Path) -> int:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(named(answer), target)
    elif path.suffix == ".csv":
        _write_csv(answer, target)
    elif path.suffix == ".jsonl":
        with target.open("w", encoding="utf-8") as file:
            for row in plain(answer).to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    else:
        raise ExportFailed(f"{path.name}: the ending must be .parquet, .csv or .jsonl")
    return int(answer.num_rows)


def _write_csv(answer: pa.Table, target: Path) -> None:
    import csv

    # Arrow's own writer refuses lists, and hit_ids is one.
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(named(answer).column_names)
        for row in plain(answer).to_pylist():
            writer.writerow([json.dumps(v, default=str) if isinstance(v, (list, dict)) else v for v in row.values()])
