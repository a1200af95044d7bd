"""The demo's questions: judged on documents that exist, split by query and by document."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from flywheel.events import normalise_query
from flywheel.rehearsal import corpus, questions


@pytest.fixture(scope="module")
def loaded() -> questions.Questions:
    return questions.load(corpus.build().ids)


def test_every_answer_exists(loaded: questions.Questions) -> None:
    """On the oldest Python that we support every judged document is in the corpus; on later ones nearly every one."""
    known = corpus.build().ids
    missing = {doc_id for question in questions.read() for doc_id in question.answers} - known
    assert len(missing) <= (0 if sys.version_info < (3, 12) else 15), missing
    assert len(loaded.skipped) <= (0 if sys.version_info < (3, 12) else 20)


def test_enough_of_each_kind(loaded: questions.Questions) -> None:
    """There are hundreds of questions, in five styles, about 60 : 20 : 20."""
    splits = Counter(question.split for question in loaded.asked)
    assert len(loaded.asked) >= 320
    assert 0.55 <= splits["train"] / splits.total() <= 0.65
    assert min(splits["golden"], splits["test"]) >= 0.17 * splits.total()
    assert min(Counter(question.style for question in loaded.asked).values()) >= 30


def test_no_question_twice(loaded: questions.Questions) -> None:
    """Ids and wordings are unique across the splits, so that no held-out query is searched in training."""
    assert len({question.id for question in loaded.asked}) == len(loaded.asked)
    assert len({normalise_query(question.text) for question in loaded.asked}) == len(loaded.asked)


@pytest.mark.parametrize("split", ["golden", "test"])
def test_half_of_the_held_out_answers_are_unseen(loaded: questions.Questions, split: questions.Split) -> None:
    """In each held-out split about half of the questions share no judged document with any training question."""
    seen = list(loaded.seen(split).values())
    assert 0.4 <= sum(seen) / len(seen) <= 0.6


def test_seen_questions_share_an_exact_answer_with_training(loaded: questions.Questions) -> None:
    """Most seen questions can be learnt: an exact answer of theirs is an exact answer of a training question."""
    exact = {doc for question in loaded.of("train") for doc, grade in question.answers.items() if grade == 2}
    for split in ("golden", "test"):
        held_out = [question for question in loaded.of(split) if loaded.seen(split)[question.id]]
        learnable = [any(g == 2 and d in exact for d, g in question.answers.items()) for question in held_out]
        assert sum(learnable) >= 0.9 * len(learnable)


def test_paraphrases_do_not_name_the_answer(loaded: questions.Questions) -> None:
    """A paraphrase never carries the last part of the name of an exact answer."""
    for question in loaded.asked:
        if question.style == "paraphrase":
            names = {doc.rsplit(".", 1)[-1].lower() for doc, grade in question.answers.items() if grade == 2}
            assert names.isdisjoint(question.text.lower().split()), question


def test_answers_that_are_missing_are_dropped_and_questions_skipped() -> None:
    """A corpus without a question's exact answers skips it; one that lacks a helpful document only drops that one."""
    loaded = questions.load({"copy.deepcopy"})
    assert {question.answers["copy.deepcopy"] for question in loaded.asked} == {2}
    assert len(loaded.asked) + len(loaded.skipped) == len(questions.read())
