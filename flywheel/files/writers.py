"""What leaves an installation as a file: any table, and the pairs most worth a judgement, as labelling tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# Most informative first: how undecided the evidence is (the entropy of its posterior: Lewis & Gale 1994, "A sequential
# algorithm for training text classifiers", uncertainty sampling), times the pages that the answer concerns; up to twice
# that where champion and challenger place the document differently, by their nDCG discounts, because such an answer
# tells them apart. A query's n-th pair counts 1/n, so that no query takes all the places. Judged pairs are left out; a
# document that no page ever showed is as likely to be relevant as the click model takes it to be at the start.
_LABELS = """
with pages as (select query_key, count(*) as pages from queries group by query_key),
run as (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1),
shadow as (
    select experiment_id from experiments join aliases using (version) semi join shadow_progress using (experiment_id)
    where alias = 'challenger' order by created_at desc limit 1
),
ranked as (select * from shadow_rankings semi join shadow using (experiment_id)),
ours as (
    select query_key, query, unnest(champion) as doc_id, generate_subscripts(champion, 1) as champion_rank from ranked
),
theirs as (
    select query_key, query, unnest(challenger) as doc_id, generate_subscripts(challenger, 1) as challenger_rank
    from ranked
),
placed as (select * from ours full join theirs using (query_key, query, doc_id)),
known as (select query_key, query, doc_id, posterior, impressions, clicks from pairs semi join run using (run_id)),
judged as (
    select query_key, doc_id from golden_judgements join golden_queries using (set_version, query_id)
),
candidates as (
    select query_key, coalesce(k.query, p.query) as query, doc_id, posterior, impressions, clicks, champion_rank,
           challenger_rank, greatest(1e-9, least(1 - 1e-9, coalesce(posterior, 0.1))) as likely,
           abs(coalesce(1 / log2(1 + champion_rank), 0) - coalesce(1 / log2(1 + challenger_rank), 0)) as disagreement
    from known k full join placed p using (query_key, doc_id) anti join judged using (query_key, doc_id)
),
scored as (
    select *, (1 + disagreement) * coalesce(pages, 1)
              * -(likely * log2(likely) + (1 - likely) * log2(1 - likely)) as information
    from candidates left join pages using (query_key)
)
select s.query, doc_id, d.title, d.text, s.posterior, s.impressions, s.clicks, s.pages, s.champion_rank,
       s.challenger_rank
from scored s join documents d using (doc_id) where not d.deleted
order by information / row_number() over (partition by s.query_key order by information desc, doc_id) desc, s.query,
         doc_id
"""
_TASK_LIMIT = 500


class ExportFailed(ValueError):  # noqa: N818 - reads as what happened
    """The file cannot be written as asked; the message says what can be."""


def statement(what: str, limit: int | None) -> str:
    """The question whose answer is exported; `what` is a table of ours or `labels`, chosen from a fixed list."""
    if what == "labels":
        return f"{_LABELS.strip()} limit {limit or _TASK_LIMIT}"
    if not what.replace("_", "").isalpha():
        raise ExportFailed(f"{what!r} is no table")
    return f"select * from {what}" + (f" limit {limit}" if limit else "")  # noqa: S608 - a fixed list, see above


def label_tasks(answer: pa.Table) -> list[dict[str, Any]]:
    """Label Studio tasks; `flywheel import annotations` reads what comes back."""
    shown = ("query", "doc_id", "title", "text")
    return [
        {
            "data": {name: row[name] for name in shown},
            "meta": {name: value for name, value in row.items() if name not in shown and value is not None},
        }
        for row in answer.to_pylist()
    ]


def write(value: pa.Table | list[dict[str, Any]], path: Path) -> int:
    """Write beside the target and rename, in the form that the ending names; returns the rows written.

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

        pq.write_table(answer, target)
    elif path.suffix == ".csv":
        _write_csv(answer, target)
    elif path.suffix == ".jsonl":
        with target.open("w", encoding="utf-8") as file:
            for row in answer.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    else:
        raise ExportFailed(f"{path.name}: the ending must be .parquet, .csv or .jsonl")
    return int(answer.num_rows)


def _write_csv(answer: pa.Table, target: Path) -> None:
    import csv

    # Arrow's own writer refuses lists, and hit_ids is one.
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(answer.column_names)
        for row in answer.to_pylist():
            writer.writerow([json.dumps(v, default=str) if isinstance(v, (list, dict)) else v for v in row.values()])
