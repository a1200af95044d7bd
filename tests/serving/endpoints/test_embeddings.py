"""Embeddings in OpenAI's shape, of either side, within bounds."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from flywheel.serving.served import Live, Ranker
from tests.serving.house import House, WordEncoder


def test_a_text_and_a_list_of_texts_have_openais_shape(house: House) -> None:
    """One object for each text, in order, with the model's version and the space of its vectors."""
    one = house.http.post("/v1/embeddings", json={"model": "champion", "input": "deep copy"}).json()
    two = house.http.post("/v1/embeddings", json={"model": "base", "input": ["deep copy", "csv"]}).json()
    assert (one["object"], one["model"], one["index_id"], set(one["usage"])) == (
        "list",
        "base",
        "space-1",
        {"prompt_tokens", "total_tokens"},
    )
    assert [(item["object"], item["index"]) for item in two["data"]] == [("embedding", 0), ("embedding", 1)]
    expected = house.encoder.encode_documents(["deep copy", "csv"])
    assert np.allclose([item["embedding"] for item in two["data"]], expected, atol=1e-6)
    assert np.allclose(one["data"][0]["embedding"], expected[0], atol=1e-6)


def test_base64_holds_the_same_floats(house: House) -> None:
    """Little-endian float32, as OpenAI's clients decode it."""
    plain = house.http.post("/v1/embeddings", json={"input": "csv"}).json()["data"][0]["embedding"]
    body = {"input": "csv", "encoding_format": "base64"}
    packed = house.http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), np.asarray(plain, np.float32))


def test_queries_and_documents_go_through_their_own_towers(house: House) -> None:
    """Where the towers differ, input_type decides; aliases and versions name the model."""
    challenger = Ranker("m2", WordEncoder(tilt=1), house.index)
    house.engine.swap(Live("base", house.encoder, house.index, challenger=challenger))

    def embed(**body: object) -> list[float]:
        return house.http.post("/v1/embeddings", json={"input": "csv", **body}).json()["data"][0]["embedding"]

    base, document = embed(model="base"), embed(model="m2", input_type="document")
    assert embed(model="challenger") == embed(model="m2", input_type="query") != base
    assert document == base


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": ""},
        {"input": []},
        {"input": ["a", ""]},
        {"input": [1, 2]},
        {"input": ["a"] * 2_049},
        {"input": [[1, 2], [3]]},
        {"input": None},
        {"input": "a", "input_type": "passage"},
        {"input": "a", "encoding_format": "int8"},
        {"input": "a", "dimensions": 7},
    ],
)
def test_what_cannot_be_embedded_is_refused(house: House, body: dict[str, object]) -> None:
    """Empty, tokenised, oversized and unknown values answer 400."""
    refused = house.http.post("/v1/embeddings", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")


def test_a_model_that_is_not_loaded_is_named(house: House) -> None:
    """404 lists what is loaded."""
    refused = house.http.post("/v1/embeddings", json={"model": "gpt", "input": "a"})
    assert refused.status_code == 404
    assert "'gpt' is not loaded; loaded are base, champion" in refused.json()["error"]["message"]


@pytest.mark.parametrize("field", ["encoding_format", "input_type", "dimensions", "user", "model"])
def test_a_null_is_as_good_as_absent(house: House, field: str) -> None:
    """LiteLLM and LangChain send every field that they know."""
    plain = house.http.post("/v1/embeddings", json={"input": ["csv"]}).json()
    assert house.http.post("/v1/embeddings", json={"input": ["csv"], field: None}).json() == plain


def test_tokens_are_refused_with_the_cure(house: House) -> None:
    """Another tokenizer's numbers mean nothing here, and the message says what to set."""
    refused = house.http.post("/openai/v1/embeddings", json={"input": [[1, 2], [3]]})
    assert refused.status_code == 400
    assert "check_embedding_ctx_length=False" in refused.json()["error"]["message"]


def test_a_request_takes_2048_texts(house: House) -> None:
    """As many as OpenAI takes, of a megabyte and more, in the order in which they were sent."""
    texts = [f"copy list {number} {'sort ' * 150}" for number in range(2_048)]
    answer = house.http.post("/openai/v1/embeddings", json={"input": texts, "encoding_format": "base64"}).json()
    found = np.array([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]])
    assert [item["index"] for item in answer["data"]] == list(range(2_048))
    assert np.allclose(found, house.encoder.encode_documents(texts), atol=1e-6)
    assert max(house.encoder.batches) <= 256


def test_models_are_listed_in_openais_shape(house: House) -> None:
    """What embeddings may be asked of, by alias and version; our own list stays as it is."""
    listed = house.http.get("/openai/v1/models").json()
    assert listed["object"] == "list"
    assert [set(model) for model in listed["data"]] == [{"id", "object", "created", "owned_by"}] * 2
    assert [model["id"] for model in listed["data"]] == ["champion", "base"]
    assert house.http.get("/openai/v1/models/champion").json() == listed["data"][0]
    missing = house.http.get("/openai/v1/models/gpt")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert house.http.get("/v1/models").json()[0]["version"] == "base"
