"""The encoder against the plain library, and the names it gives to spaces."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from flywheel.retrieval.encoder import Encoder, index_id_of, tower_id
from flywheel.retrieval.origin import ModelMissing, resolve_base_model

TEXTS = [
    "vitamin d and bone density",
    "",
    "A long abstract about trials. " * 60,
    "Ünïcode – naïve café",
    "aspirin",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load("auto", device="cpu", threads=1)


def test_vectors_are_those_of_the_plain_library(encoder: Encoder) -> None:
    """Both sides agree with SentenceTransformer's own encode to a cosine of 0.999, in the order of the texts."""
    plain = encoder.model
    for ours, theirs in (
        (encoder.encode_queries(TEXTS), plain.encode_query(TEXTS)),
        (encoder.encode_documents(TEXTS, batch_size=2), plain.encode_document(TEXTS)),
    ):
        assert ours.dtype == np.float32
        assert ours.shape == (len(TEXTS), encoder.dimension)
        assert (ours * theirs).sum(axis=1).min() > 0.999
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_bf16_stays_close_to_fp32(encoder: Encoder) -> None:
    """Half precision moves no vector by more than a cosine of 0.001."""
    exact = Encoder.load("auto", device="cpu", bf16="off").encode_queries(TEXTS)
    rough = Encoder.load("auto", device="cpu", bf16="on").encode_queries(TEXTS)
    assert (exact * rough).sum(axis=1).min() > 0.999


def test_no_text_gives_no_vector(encoder: Encoder) -> None:
    """An empty list is no error."""
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)


def test_progress_counts_up_to_the_total(encoder: Encoder) -> None:
    """The callback sees every batch and ends at the total."""
    calls: list[tuple[int, int]] = []
    encoder.encode_documents(["a", "b", "c"], batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 3), (3, 3)]


def test_threads_may_share_an_encoder(encoder: Encoder) -> None:
    """Concurrent calls give what one call after the other gives."""
    expected = encoder.encode_queries(["alpha beta"])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encoder.encode_queries, [["alpha beta"]] * 16):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_space_changes_with_weights_and_length_only(encoder: Encoder) -> None:
    """The same weights have the same name; one changed number, or another length limit, has another."""
    assert Encoder.load("auto", device="cpu").document_tower_id == encoder.document_tower_id
    shorter = Encoder.load("auto", device="cpu", max_seq_length=64)
    assert shorter.max_seq_length == 64
    assert shorter.document_tower_id == encoder.document_tower_id
    assert shorter.index_id != encoder.index_id == index_id_of(encoder.document_tower_id, 256)
    weight = next(shorter.model.parameters())
    weight.data[0, 0] += 1
    assert tower_id(shorter.model, "document") != encoder.document_tower_id


def test_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    """Neither a wrong folder nor a hub name is downloaded or half loaded."""
    with pytest.raises(ModelMissing, match=r"trainer\.base_model"):
        resolve_base_model(str(tmp_path))
    with pytest.raises(ModelMissing, match="no SentenceTransformer folder"):
        Encoder.load("sentence-transformers/some-model")
