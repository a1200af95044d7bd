"""BM25, against the formula written out for each document."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from flywheel.retrieval.bm25 import Lexical

TEXTS = {
    "a": "Shallow copy of a list",
    "b": "Deep copy of nested objects, and of a list of lists",
    "c": "Sort the list in place",
    "d": "",
    "e": "Zebra",
}


def expected(query: str, text: str) -> float:
    """Robertson & Zaragoza (2009), eq. 3.15, word by word."""
    words = {key: re.findall(r"\w+", value.lower()) for key, value in TEXTS.items()}
    mean = sum(map(len, words.values())) / len(words)
    total = 0.0
    for word in set(re.findall(r"\w+", query.lower())):
        seen = sum(word in of for of in words.values())
        count = words[text].count(word)
        idf = math.log(1 + (len(words) - seen + 0.5) / (seen + 0.5))
        total += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words[text]) / mean))
    return total


def test_scores_are_those_of_the_formula() -> None:
    """Best first, with the scores of the paper's equation, and only documents that share a word."""
    (found,), (scores,) = Lexical(list(TEXTS), list(TEXTS.values())).search(["copy a LIST"], 10)
    wanted = {key: expected("copy a list", key) for key in TEXTS}
    assert found == [key for key in sorted(wanted, key=lambda key: -wanted[key]) if wanted[key] > 0]
    assert [round(float(score), 4) for score in scores] == [round(wanted[key], 4) for key in found]


def test_unknown_words_and_empty_queries_find_nothing() -> None:
    """Neither raises, and other queries of the same call are answered."""
    found, scores = Lexical(list(TEXTS), list(TEXTS.values())).search(["", "unheard", "zebra"], 1)
    assert (found, [len(row) for row in scores]) == ([[], [], ["e"]], [0, 0, 1])


def test_a_word_that_stands_everywhere_counts_for_nothing() -> None:
    """In a collection where every document has a word, that word finds none of them."""
    lexical = Lexical([str(i) for i in range(50)], [f"the word{i}" for i in range(50)])
    assert lexical.search(["the"], 5)[0] == [[]]
    assert lexical.search(["the word7"], 5)[0] == [["7"]]


def test_a_pairs_score_is_what_a_search_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair is asked for apart: the formula's score, however many go at once; 0 for a document not held."""
    monkeypatch.setattr("flywheel.retrieval.bm25._PAIRS_AT_ONCE", 4)
    queries = ["copy a LIST", "unheard", "zebra list"]
    pairs = [(number, doc) for doc in [*"abcde", "elsewhere"] for number in range(3)]
    lexical = Lexical(list(TEXTS), list(TEXTS.values()))
    found = lexical.scores(queries, np.array([number for number, _ in pairs]), [doc for _, doc in pairs])
    wanted = [expected(queries[number], doc) if doc in TEXTS else 0.0 for number, doc in pairs]
    assert found == pytest.approx(wanted, rel=1e-5)
    assert max(wanted) > 0
    assert len(lexical.scores([], np.array([], np.int64), [])) == 0
