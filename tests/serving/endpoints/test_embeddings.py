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
        {"input": ["a"] * 257},
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
