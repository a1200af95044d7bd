"""A verdict as Markdown, for the summary of a pipeline's run or a comment on a change."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.files.verdicts.report import VerdictReport

_MARKS = {"pass": "✅ better", "fail": "❌ not better", "undecided": "❔ undecided"}


def markdown(report: VerdictReport) -> str:
    """A heading with the verdict, its sentence, the table, and the reasons."""
    lines = [f"## {_cell(report.title)}: {_MARKS[report.outcome]}", "", _text(report.headline), ""]
    lines += [_row(report.columns), _row(["---"] * len(report.columns)), *map(_row, report.rows), ""]
    lines += [f"- {_text(reason)}" for reason in report.reasons]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """On one line, and without HTML: names of folders come from outside."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
