"""Titles come from memory until somebody says that they changed."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.retrieval.titles import TitleCache


def test_a_title_is_read_once_and_again_after_it_changed() -> None:
    """The second answer costs no read; after `forget` the new title is seen; unknown ids are left out."""
    stored, reads = {"a": "old"}, []

    def read(doc_ids: Sequence[str]) -> dict[str, str]:
        reads.append(list(doc_ids))
        return {key: stored[key] for key in doc_ids if key in stored}

    cache = TitleCache(read)
    assert cache.titles(["a", "none"]) == cache.titles(["a"]) == {"a": "old"}
    stored["a"] = "new"
    cache.forget(["a"])
    assert cache.titles(["a"]) == {"a": "new"}
    assert reads == [["a", "none"], ["a"]]
