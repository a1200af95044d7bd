"""The collection of titles: documents apart, and a folder that other benchmarks read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.titles import Titles
from flywheel.files.beir import read_corpus, read_split

NONE = {"train": 0, "test": 0, "documents": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 documents with titles of their own, two that share one, one whose title is a word, one without text."""
    rows = [{"_id": f"d{row}", "title": f"the title number {row}", "text": f"body {row}"} for row in range(40)]
    rows += [{"_id": f"s{row}", "title": "one title for two", "text": "body"} for row in range(2)]
    rows += [{"_id": "w", "title": "word", "text": "body"}, {"_id": "e", "title": "an empty document", "text": " "}]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return tmp_path


def titles(folder: Path, **bounds: int) -> Titles:
    return Titles.read(argparse.Namespace(beir=folder, max_seq_length=64, **NONE | bounds))


def test_no_scored_title_has_a_document_that_trains(folder: Path) -> None:
    """Each usable title is in one half, with its own document; a text holds no title, and documents are ranked once."""
    found = titles(folder)
    trained, scored = {doc_id for _, doc_id in found.train}, {doc_id for (doc_id,) in found.test.values()}
    assert not trained & scored
    assert trained | scored == {f"d{row}" for row in range(40)}
    assert min(len(trained), len(scored)) > 10
    assert set(found.documents) == trained | scored | {"s0", "s1", "w"}
    assert not any("title" in text for text in found.documents.values())


def test_bounds_hold_and_draw_the_same_each_time(folder: Path) -> None:
    """So many training titles, scored ones and documents as were asked for."""
    found = titles(folder, train=5, test=4, documents=12)
    assert (len(found.train), len(found.test), len(found.documents)) == (5, 4, 12)
    assert found == titles(folder, train=5, test=4, documents=12)


def test_other_benchmarks_read_what_it_writes(folder: Path, tmp_path: Path) -> None:
    """The folder holds both splits and the documents, as any collection does."""
    found = titles(folder, train=5, test=4)
    made = found.write(tmp_path / "made")
    assert {one.doc_id: one.content for one in read_corpus(made)} == found.documents
    for split, pairs in (("train", found.train), ("test", [(text, docs[0]) for text, docs in found.test.items()])):
        judged = read_split(made, split)
        read = zip(judged.texts, judged.judgements, strict=True)
        assert {(text, next(iter(graded))) for text, graded in read} == set(pairs)
