"""Clients that people bring, unmodified: OpenAI's own, LiteLLM's and LangChain's get the model's own vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from benchmarks import families
from flywheel.retrieval.encoder import Encoder
from flywheel.serving.served import Live
from tests.serving.house import House, make_index, serve

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the internet for prices
TEXTS = ["copy a list", "sort things in place", "naïve café"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.make("E5's prompts, 64 tokens", tmp_path_factory.mktemp("clients") / "model")


@pytest.fixture(scope="module")
def expected(folder: Path) -> np.ndarray:
    """What `SentenceTransformer.encode_query` gives for the texts."""
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.asarray(library.encode_query(TEXTS, normalize_embeddings=True))


@pytest.fixture(scope="module")
def house(folder: Path) -> Iterator[House]:
    with serve() as running:
        encoder = Encoder.load(folder, device="cpu", bf16="off")
        running.engine.swap(Live("small", encoder, make_index(encoder)))  # type: ignore[arg-type]
        yield running


def test_openais_client_embeds_and_lists(house: House, expected: np.ndarray) -> None:
    """`embeddings.create`, `models.list` and `models.retrieve`."""
    from openai import NotFoundError, OpenAI

    client = OpenAI(base_url=f"{house.url}/openai/v1", api_key="unused", max_retries=0)
    found = client.embeddings.create(model="champion", input=TEXTS)
    np.testing.assert_allclose([item.embedding for item in found.data], expected, atol=1e-5)
    assert [model.id for model in client.models.list()] == ["champion", "small"]
    assert client.models.retrieve("champion").id == "champion"
    with pytest.raises(NotFoundError, match="'gpt' is not loaded; loaded are champion, small"):
        client.models.retrieve("gpt")


def test_litellm_embeds(house: House, expected: np.ndarray) -> None:
    """It sends every field that it knows, as null."""
    import litellm

    found = litellm.embedding(model="openai/champion", input=TEXTS, api_base=f"{house.url}/openai/v1", api_key="unused")
    np.testing.assert_allclose([item["embedding"] for item in found.data], expected, atol=1e-5)


def test_langchain_embeds(house: House, expected: np.ndarray) -> None:
    """With texts instead of another model's tokens."""
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(
        model="champion", base_url=f"{house.url}/openai/v1", api_key="unused", check_embedding_ctx_length=False
    )  # type: ignore[call-arg]
    np.testing.assert_allclose(client.embed_documents(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(client.embed_query(TEXTS[0]), expected[0], atol=1e-5)
