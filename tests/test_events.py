"""Queries that people mean alike have one key."""

from __future__ import annotations

import pytest

from flywheel.events import normalise_query


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Red  Shoes?", "red shoes"),
        ("  STRASSE\t1 ", "straße 1"),
        ("ﬁle upload!", "file upload"),
        ("ｒｅｄ　ｓｈｏｅｓ？", "red shoes"),
        ("cafe\u0301", "café"),
    ],
)
def test_case_width_accents_and_outer_punctuation_do_not_part_queries(one: str, other: str) -> None:
    """Unicode's compatible forms, case, white space and punctuation around a query make no other query."""
    assert normalise_query(one) == normalise_query(other)


@pytest.mark.parametrize(
    ("one", "other"), [("dog bites man", "man bites dog"), ("c++", "c"), ("c#", "c"), ("wi-fi", "wifi")]
)
def test_word_order_and_what_stands_within_words_do(one: str, other: str) -> None:
    """What may change the meaning keeps queries apart."""
    assert normalise_query(one) != normalise_query(other)
