"""What is cut off of long documents is counted as the model's own tokenizer counts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flywheel.events import Document
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.windows import Beyond, beyond_window
from flywheel.store.store import Store

NOW = 1_770_000_000_000


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load("auto", device="cpu", threads=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as opened:
        yield opened


def _fill(store: Store, words: list[int], title: str = "the title") -> None:
    made = [Document(f"d{row}", title, "bone " * count, updated_at_ms=NOW) for row, count in enumerate(words)]
    store.documents.upsert(made, NOW)


def test_the_shares_are_those_of_documents_and_tokens(store: Store, encoder: Encoder) -> None:
    """One of four documents is longer by a known number of tokens; the title is counted, and stays whole."""
    window = encoder.max_seq_length
    _fill(store, [10, 10, 10, window + 96])  # a token each, two of the title, two special ones
    found = beyond_window(encoder, store.documents)
    assert (found.longer, found.titles, found.sampled) == (0.25, 0.0, 4)
    assert found.tokens == pytest.approx(100 / (3 * 14 + window + 100))
    assert f"{window} tokens of a document: 25 % of them are longer" in found.sentence
    assert "(counted on all)" in found.sentence


def test_what_lies_beyond_the_window_moves_no_vector_and_the_title_does(encoder: Encoder) -> None:
    """Of a document that is too long the end is cut and never the title, which stands first in the text."""
    body = "bone " * (encoder.max_seq_length + 50)
    plain, longer, other = (
        Document("d", title, text, updated_at_ms=NOW).content
        for title, text in (("aspirin", body), ("aspirin", f"{body} vitamin"), ("vitamin", body))
    )
    vectors = encoder.encode_documents([plain, longer, other])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert float(vectors[0] @ vectors[2]) < 0.999


def test_a_title_that_is_too_long_is_told(store: Store, encoder: Encoder) -> None:
    """A title of more tokens than the window is counted among those that do not stay whole."""
    _fill(store, [1, 1], title="vitamin " * (encoder.max_seq_length + 1))
    found = beyond_window(encoder, store.documents)
    assert found.titles == 1.0
    assert "100 % of titles do not stay whole" in found.sentence


def test_a_large_collection_is_sampled_and_says_so(store: Store, encoder: Encoder) -> None:
    """Of twelve documents five are counted, the same ones each time."""
    _fill(store, [3] * 12)
    found = beyond_window(encoder, store.documents, sample=5)
    assert (found.sampled, found.documents) == (5, 12)
    assert found == beyond_window(encoder, store.documents, sample=5)
    assert "a sample of 5" in found.sentence
    assert store.documents.sample(5) == store.documents.sample(5)


def test_a_very_long_text_is_counted_by_its_beginning(encoder: Encoder) -> None:
    """Beyond 20,000 characters the rest is taken to be like the beginning: right for a text that is even."""
    counts = encoder.token_counts(["bone " * 4_000, "bone " * 40_000])
    assert counts[1] == pytest.approx(10 * counts[0], rel=0.001)


def test_a_model_that_reads_all_cuts_nothing() -> None:
    """Without a limit the answer is that documents are read whole."""
    assert Beyond(0, 7, 5).sentence == "the model reads documents whole"
