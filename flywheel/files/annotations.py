"""Turns annotators' answers on (query, document) pairs into one grade a pair: Label Studio's exports or plain rows.

It reads shapes, not files. Of an annotator's answers on a pair the latest counts.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.files import cells
from flywheel.files.cells import BadCell

Row = Mapping[str, Any]
Skip = Callable[[str], None]
# Names of the labelling control. JSON-MIN and CSV exports carry its answer under that name.
_ANSWERS = ("grade", "relevance", "rating", "label", "choice")
# what a control of Label Studio calls its answer
_VALUES = ("rating", "number", "choices")
_GRADES = {"highly relevant": 2.0, "partially relevant": 1.0, "relevant": 1.0, "yes": 1.0, "true": 1.0} | dict.fromkeys(
    ("irrelevant", "not relevant", "no", "false"), 0.0
)
_LEADING_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:[-–—:.)=]|$)")


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's answer. `when` orders an annotator's own answers. `truth` marks Label Studio's ground truth."""

    annotator: str
    when: str
    grade: float
    truth: bool


def judgements(rows: Iterable[Row], skip: Skip) -> Iterator[dict[str, Any]]:
    """`{query, doc_id, grade}` of every pair that has an answer, in the order in which the pairs first came.

    A pair of a sample also has `sample`, `stratum`, `stratum_size`, `population` and `inclusion`, as it was drawn.

    A row is a task of Label Studio's JSON export with its `annotations`, a line of its JSON-MIN or CSV export (one an
    annotation), or a plain row with `grade`. Cancelled annotations and tasks that nobody answered are skipped with a
    reason. Where annotators differ the middle grade counts. Of two middle grades the lower counts, because a tie is not
    relevant enough to teach from. Annotations marked as ground truth overrule the others.
    """
    votes: dict[tuple[str, str], list[Vote]] = defaultdict(list)
    drawn: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(rows):
        nested = row.get("data")
        data = nested if isinstance(nested, Mapping) else row
        try:
            pair = _cell(data, "query"), _cell(data, "doc_id")
        except BadCell as problem:
            skip(str(problem))
            continue
        pair_votes, reason = _votes(row, str(number))
        votes[pair] += pair_votes
        drawn.setdefault(pair, _drawn(data))
        if reason:
            skip(reason)
    for (query, doc_id), pair_votes in votes.items():
        if pair_votes:
            yield {"query": query, "doc_id": doc_id, "grade": agreed(pair_votes), **drawn[query, doc_id]}


def _drawn(data: Row) -> dict[str, Any]:
    """How the pair was drawn; nothing where it is of no sample, or where the file was changed by hand."""
    try:
        found: dict[str, Any] = {name: str(data[name]) for name in ("sample", "stratum")}
        found |= {name: int(data[name]) for name in ("stratum_size", "population")}
        return found | {"inclusion": float(data["inclusion"])} if found["sample"] and found["stratum"] else {}
    except (KeyError, TypeError, ValueError):
        return {}


def _cell(data: Row, name: str) -> str:
    try:
        found = cells.text(data.get(name))
    except BadCell as problem:
        raise BadCell(f"{name}: {problem}") from problem
    if found is None:
        raise BadCell(f"no {name}" if name in data else f"no column {name}; it has {_names(data)}")
    return found


def _names(row: Row) -> str:
    """The columns that are there, as far as a reason should name them."""
    names = [str(cells.mended(str(name))) for name in row]
    return ", ".join(names[:20]) or "nothing"


def agreed(votes: Iterable[Vote]) -> float:
    """The middle grade over annotators, each by their latest answer. Ground truths count alone if there are any."""
    latest: dict[str, Vote] = {}
    for vote in sorted(votes, key=lambda vote: vote.when):
        latest[vote.annotator] = vote
    truths = [vote.grade for vote in latest.values() if vote.truth]
    return statistics.median_low(truths or [vote.grade for vote in latest.values()])


def _votes(row: Row, place: str) -> tuple[list[Vote], str | None]:
    """The votes of one row and, where it has none, why."""
    annotations = row.get("annotations")
    if not isinstance(annotations, list):
        return _flat(row, place)
    cancelled, answers, unread = 0, [], ""
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            continue
        if annotation.get("was_cancelled"):
            cancelled += 1
            continue
        grade, unread = _first_grade(annotation.get("result"), unread)
        if grade is not None:
            who = _identity(annotation.get("completed_by"), f"{place}.{index}")
            when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
            answers.append(Vote(who, when, grade, bool(annotation.get("ground_truth"))))
    if answers:
        return answers, None
    return [], unread or ("skipped by its annotators" if cancelled else "not annotated")


def _flat(row: Row, place: str) -> tuple[list[Vote], str | None]:
    answers = [row[name] for name in _ANSWERS if row.get(name) not in (None, "", [])]
    if not answers:
        if row.keys() & set(_ANSWERS):
            return [], "not annotated"
        return [], f"no column {', '.join(_ANSWERS[:-1])} or {_ANSWERS[-1]}; it has {_names(row)}"
    grade = _grade(answers[0])
    if grade is None:
        return [], _unread(answers[0])
    who = _identity(row.get("annotator"), place)
    return [Vote(who, str(row.get("updated_at") or row.get("created_at") or ""), grade, truth=False)], None


def _first_grade(result: Any, unread: str) -> tuple[float | None, str]:
    """The grade of an annotation's first control that has one; else None and what could not be read."""
    for item in result if isinstance(result, list) else ():
        value = item.get("value") if isinstance(item, Mapping) else None
        if not isinstance(value, Mapping):
            continue
        for name in _VALUES:
            if value.get(name) is not None:
                grade = _grade(value[name])
                if grade is not None:
                    return grade, unread
                unread = _unread(value[name])
    return None, unread


def _grade(answer: Any) -> float | None:
    """A number, a choice that means one, or a choice that begins with one; None for anything else or below 0.

    Label Studio's JSON-MIN and CSV hold the answer of a rating or of several choices as a list of objects.
    """
    if isinstance(answer, str) and answer.startswith(("{", "[")):  # a list or object in a CSV cell
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return None
    if isinstance(answer, list):
        answer = answer[0] if len(answer) == 1 else None
    if isinstance(answer, Mapping):
        answer = next((answer[name] for name in _VALUES if answer.get(name) is not None), None)
        if isinstance(answer, list):
            answer = answer[0] if len(answer) == 1 else None
    if isinstance(answer, str):
        grade_of_choice = _GRADES.get(answer.strip().lower())
        if grade_of_choice is not None:
            return grade_of_choice
        leading = _LEADING_NUMBER.match(answer)
        if leading:
            return float(leading[1])
    try:
        number = cells.number(answer)
    except BadCell:
        return None
    return number if number is not None and number >= 0 else None


def _unread(answer: Any) -> str:
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    shown = answer if isinstance(answer, str) else json.dumps(answer, default=cells.shown)
    return f"an answer that is no grade: {cells.mended(shown)[:40]}"


def _identity(annotator: Any, otherwise: str) -> str:
    """Label Studio names an annotator by number, by mail address or by a record of both.

    Each answer without a name counts as another annotator's.
    """
    if isinstance(annotator, Mapping):
        annotator = annotator.get("id", annotator.get("email"))
    try:
        return cells.text(annotator) or otherwise
    except BadCell:
        return otherwise
