"""Imports a judged set: which queries it brings, which it cannot use and why, and what it can decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.commands.display import waiting

if TYPE_CHECKING:
    from flywheel.files.beir import Judged
    from flywheel.operations import JudgedKind, Operations


def bring(operations: Operations, kind: JudgedKind, name: str, folder: Path, split: str) -> dict[str, Any]:
    """Store a split of a BEIR folder; `read`, `stored` and `skipped` count queries, `judgements` counts rows."""
    from flywheel.files.beir import read_split

    judged = read_split(folder, split)
    queries = [{"id": key, "text": text} for key, text in zip(judged.ids, judged.texts, strict=True)]
    judgements = [
        {"query_id": key, "doc_id": doc, "grade": grade}
        for key, grades in zip(judged.ids, judged.judgements, strict=True)
        for doc, grade in grades.items()
    ]
    with waiting(f"importing {len(queries)} judged queries"):
        answer = operations.import_judged(kind, name, queries, judgements)
    return answer | _unused(judged, answer)


def _unused(judged: Judged, answer: dict[str, Any]) -> dict[str, Any]:
    """What the files held beside what was handed over."""
    unused, rows = judged.unused, judged.rows
    reasons = dict(unused.reasons + type(unused.reasons)(answer.get("reasons") or {}))
    judgements = {"read": rows.read, "skipped": rows.reasons.total(), "reasons": dict(rows.reasons)}
    return {
        "read": unused.read,
        "skipped": sum(reasons.values()),
        "reasons": reasons,
        "judgements": judgements,
        "places": dict(unused.places) | dict(rows.places),
    }
