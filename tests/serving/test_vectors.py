"""Query vectors: remembered within bounds, encoded together, and errors told to whoever waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from flywheel.serving.served import Ranker
from flywheel.serving.vectors import QueryVectors
from tests.serving.house import WordEncoder


def ranker(version: str, encoder: object) -> Ranker:
    return Ranker(version, encoder, SimpleNamespace())  # type: ignore[arg-type]


class Gate(WordEncoder):
    """Encodes only while the gate is open; says when somebody is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.open = threading.Event(), threading.Event()

    def encode_queries(self, texts):
        self.inside.set()
        assert self.open.wait(10)
        return super().encode_queries(texts)


def test_threads_that_wait_are_encoded_in_one_batch() -> None:
    """While one text is encoded, ten more queue up and go as a second batch, repeated texts once."""
    encoder = Gate()
    vectors, model = QueryVectors(100), ranker("m", encoder)
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(vectors.vector, model, "first")
        encoder.inside.wait(5)
        others = [pool.submit(vectors.vector, model, f"text{i % 5}") for i in range(10)]
        while vectors.misses < 11:
            threading.Event().wait(0.005)
        encoder.open.set()
        found = [future.result(10) for future in [first, *others]]
    assert encoder.batches == [1, 5]
    alone = WordEncoder().encode_queries(["first", *(f"text{i % 5}" for i in range(10))])
    assert np.allclose(found, alone)


def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    """The least recently used vector goes first."""
    encoder = WordEncoder()
    vectors, model = QueryVectors(2), ranker("m", encoder)
    for text in ("a", "b", "a", "c", "a", "b"):
        vectors.vector(model, text)
    assert (vectors.hits, vectors.misses) == (2, 4)


def test_versions_do_not_share_vectors() -> None:
    """The same text under another version is encoded by that version, and forgotten with it."""
    vectors = QueryVectors(10)
    base, other = ranker("base", WordEncoder()), ranker("m2", WordEncoder(tilt=1))
    assert not np.allclose(vectors.vector(base, "copy"), vectors.vector(other, "copy"))
    vectors.forget_all_but({"m2"})
    vectors.vector(other, "copy")
    vectors.vector(base, "copy")
    assert (vectors.hits, vectors.misses) == (1, 3)


def test_a_failing_encoder_fails_its_callers_and_nobody_else() -> None:
    """The error reaches the caller, is not remembered, and other versions go on."""

    class Broken(WordEncoder):
        def encode_queries(self, texts):
            raise RuntimeError("out of memory")

    vectors = QueryVectors(10)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            vectors.vector(ranker("bad", Broken()), "copy")
    assert vectors.vector(ranker("good", WordEncoder()), "copy").shape == (32,)


def test_no_memory_at_all_is_a_valid_setting() -> None:
    """cache_queries = 0 encodes every time."""
    encoder = WordEncoder()
    vectors = QueryVectors(0)
    for _ in range(3):
        vectors.vector(ranker("m", encoder), "copy")
    assert encoder.batches == [1, 1, 1]
