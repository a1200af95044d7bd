"""Questions that people ask about Python, with the documents that answer them, written and judged by hand.

Simulated people search `train`, `golden` is the gate's set, and only the closing table uses `test`. About half of the
golden and of the test questions have answers that are answers of training questions too ("seen").
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import msgspec

Split = Literal["train", "golden", "test"]
Style = Literal["beginner", "expert", "paraphrase", "error", "confusable"]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question; `answers` maps a document to its grade: 2 if it answers the question, 1 if it helps."""

    id: str
    text: str
    answers: dict[str, int]
    style: Style
    split: Split


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that this corpus can answer, and those that it cannot."""

    asked: tuple[Question, ...]
    skipped: tuple[str, ...]

    def of(self, split: Split) -> tuple[Question, ...]:
        return tuple(question for question in self.asked if question.split == split)

    def queries(self, split: Split) -> dict[str, str]:
        """Question id -> text."""
        return {question.id: question.text for question in self.of(split)}

    def judgements(self, split: Split) -> dict[str, dict[str, int]]:
        """Question id -> document -> grade."""
        return {question.id: question.answers for question in self.of(split)}

    def seen(self, split: Split) -> dict[str, bool]:
        """Question id -> whether any of its answers is an answer of a training question too."""
        trained = {doc_id for question in self.of("train") for doc_id in question.answers}
        return {question.id: not trained.isdisjoint(question.answers) for question in self.of(split)}


def load(doc_ids: Collection[str]) -> Questions:
    """Read the questions that ship with the package, for a corpus of these documents.

    Answers that the corpus lacks are dropped; a question left without an exact answer (grade 2) is skipped.
    """
    present = frozenset(doc_ids)
    asked: list[Question] = []
    skipped: list[str] = []
    for question in read():
        answers = {doc_id: grade for doc_id, grade in question.answers.items() if doc_id in present}
        if 2 in answers.values():
            asked.append(msgspec.structs.replace(question, answers=answers))
        else:
            skipped.append(question.id)
    return Questions(tuple(asked), tuple(skipped))


def read() -> list[Question]:
    """Every question in the file, in its order."""
    text = resources.files(__package__).joinpath("questions.jsonl").read_bytes()
    return msgspec.json.Decoder(Question).decode_lines(text)
