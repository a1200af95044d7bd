"""The collection by its words, kept as the store's documents change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flywheel.retrieval.bm25_shared import Words


@dataclass
class Shelf:
    """Documents in memory; `gone` are deleted between the list of ids and the reading of texts."""

    texts: dict[str, str]
    change: int = 1
    gone: set[str] = field(default_factory=set)
    reads: int = 0

    def last_change(self) -> int:
        return self.change

    def count(self) -> int:
        return len(self.texts)

    def ids(self) -> list[str]:
        return sorted(self.texts)

    def contents(self, doc_ids: Sequence[str]) -> dict[str, str]:
        self.reads += 1
        return {doc_id: self.texts[doc_id] for doc_id in doc_ids if doc_id not in self.gone}


def found(words: Words, query: str) -> list[str]:
    lexical = words.now()
    assert lexical is not None
    return lexical.search([query], 5)[0][0]


def test_it_is_built_once_and_anew_when_documents_changed() -> None:
    """A second question reads nothing; after a change the new document is found."""
    shelf = Shelf({"a": "zebra", "b": "list"})
    words = Words(shelf, 10)
    assert found(words, "zebra") == found(words, "zebra") == ["a"]
    assert shelf.reads == 1
    shelf.texts["c"], shelf.change = "zebra crossing", 2
    assert set(found(words, "zebra")) == {"a", "c"}


def test_a_collection_that_is_empty_or_too_large_is_not_searched_by_words() -> None:
    """Up to the limit it is, above it nothing is read."""
    shelf = Shelf({"a": "zebra", "b": "list"})
    assert Words(shelf, 2).now() is not None
    assert Words(shelf, 1).now() is None
    assert Words(Shelf({}), 1).now() is None
    assert shelf.reads == 1


def test_a_document_deleted_meanwhile_is_left_out() -> None:
    """Between the ids and the texts it went away: the others are found."""
    assert found(Words(Shelf({"a": "zebra", "b": "zebra"}, gone={"a"}), 5), "zebra") == ["b"]
