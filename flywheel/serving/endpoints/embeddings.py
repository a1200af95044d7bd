"""`POST /v1/embeddings` in OpenAI's shape, by a live model's side for queries or for documents."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.bodies import Body
from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.endpoints.threads import beside
from flywheel.serving.served import Ranker, Vectors
from flywheel.serving.services import SearchService
from flywheel.settings.load import Limits

MOST_TEXTS = 256
Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class EmbeddingRequest(Body):
    # OpenAI's clients may send tokens instead of text; read as text, the numbers would give meaningless vectors
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=False)

    model: str = Field("champion", min_length=1, max_length=200)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    input_type: Literal["query", "document"] = "query"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class EmbeddingEndpoint:
    """One request encodes at a time, so that embedding a collection leaves processor time for searches."""

    def __init__(self, search: SearchService, limits: Limits) -> None:
        self._search = search
        self._limits = limits
        self._turn = asyncio.Lock()

    async def embed(self, request: Request) -> JSONResponse:
        wish = await bodies.parse(request, EmbeddingRequest, self._limits.request_bytes)
        ranker = self._search.ranker(wish.model)
        if wish.dimensions not in (None, ranker.encoder.dimension):
            message = f"model {ranker.version} has {ranker.encoder.dimension} dimensions; leave `dimensions` out"
            raise Problem(400, "invalid_request", message)
        texts = [wish.input] if isinstance(wish.input, str) else wish.input
        async with self._turn:
            body = await beside(_answer, ranker, texts, wish)
        return JSONResponse(body)


def _answer(ranker: Ranker, texts: list[str], wish: EmbeddingRequest) -> dict[str, Any]:
    encode = ranker.encoder.encode_queries if wish.input_type == "query" else ranker.encoder.encode_documents
    vectors: Vectors = np.asarray(encode(texts), dtype="<f4")
    return {
        "object": "list",
        "model": ranker.version,
        "index_id": ranker.index.index_id,
        "data": [
            {"object": "embedding", "index": number, "embedding": _written(vector, wish.encoding_format)}
            for number, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def _written(vector: Vectors, encoding_format: str) -> list[float] | str:
    """A list of numbers, or base64 of the little-endian float32 bytes, as OpenAI's clients read it."""
    if encoding_format == "base64":
        return base64.b64encode(vector.tobytes()).decode("ascii")
    values: list[float] = vector.tolist()
    return values
