"""What OpenAI's clients ask: embeddings, by a live model's side for queries or for documents, and the list of models.

`/v1/embeddings` answers too, and `GET /v1/models` is our own, of another shape.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse

from flywheel.operations import Operations
from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.bodies import Body
from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.endpoints.threads import beside
from flywheel.serving.served import Ranker, Vectors
from flywheel.serving.services import SearchService
from flywheel.settings.load import Limits

MOST_TEXTS = 2_048
_AT_ONCE = 256  # so many texts of one request are encoded before another request gets its turn
Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class EmbeddingRequest(Body):
    # OpenAI's clients may send tokens instead of text; read as text, the numbers would give meaningless vectors
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=False)

    model: str = Field("champion", min_length=1, max_length=200)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    input_type: Literal["query", "document"] = "query"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _sent(cls, body: Any) -> Any:
        """A null is as good as absent: LiteLLM and LangChain send every field."""
        if not isinstance(body, dict):
            return body
        given = body.get("input")
        first = given[0] if isinstance(given, list) and given else given
        if isinstance(first, int | list):
            raise ValueError(  # noqa: TRY004 - pydantic makes a refusal of this one
                "input holds tokens, and another tokenizer's mean nothing to this model: send texts (LangChain: "
                "check_embedding_ctx_length=False)"
            )
        return {name: value for name, value in body.items() if value is not None}


class EmbeddingEndpoint:
    """Some texts are encoded at a time, so that embedding a collection leaves processor time for searches."""

    def __init__(self, search: SearchService, operations: Operations, limits: Limits) -> None:
        self._search = search
        self._operations = operations
        self._limits = limits
        self._turn = asyncio.Lock()

    async def embed(self, request: Request) -> JSONResponse:
        """`POST /v1/embeddings` and `POST /openai/v1/embeddings`."""
        wish = await bodies.parse(request, EmbeddingRequest, self._limits.embedding_bytes)
        ranker = self._search.ranker(wish.model)
        if wish.dimensions not in (None, ranker.encoder.dimension):
            message = f"model {ranker.version} has {ranker.encoder.dimension} dimensions; leave `dimensions` out"
            raise Problem(400, "invalid_request", message)
        texts = [wish.input] if isinstance(wish.input, str) else wish.input
        encode = ranker.encoder.encode_queries if wish.input_type == "query" else ranker.encoder.encode_documents
        parts: list[Vectors] = []
        for start in range(0, len(texts), _AT_ONCE):
            async with self._turn:
                parts.append(await beside(encode, texts[start : start + _AT_ONCE]))
        return JSONResponse(await beside(_answer, ranker, np.concatenate(parts), wish.encoding_format))

    async def models(self, _: Request) -> JSONResponse:
        """`GET /openai/v1/models`: the aliases and versions that embeddings may be asked of."""
        return JSONResponse({"object": "list", "data": list((await self._listed()).values())})

    async def model(self, request: Request) -> JSONResponse:
        """`GET /openai/v1/models/{name}`."""
        listed, name = await self._listed(), request.path_params["name"]
        if name not in listed:
            raise Problem(404, "model_not_found", f"model {name!r} is not loaded; loaded are {', '.join(listed)}")
        return JSONResponse(listed[name])

    async def _listed(self) -> dict[str, dict[str, Any]]:
        names = self._search.loaded()
        made = {model["version"]: _epoch(model.get("created_at")) for model in await beside(self._operations.models)}
        return {
            name: {"id": name, "object": "model", "created": made.get(version, 0), "owned_by": "flywheel"}
            for name, version in names.items()
        }


def _epoch(created_at: Any) -> int:
    return int(datetime.fromisoformat(created_at).timestamp()) if created_at else 0


def _answer(ranker: Ranker, encoded: Vectors, encoding_format: str) -> dict[str, Any]:
    vectors: Vectors = np.asarray(encoded, dtype="<f4")
    return {
        "object": "list",
        "model": ranker.version,
        "index_id": ranker.index.index_id,
        "data": [
            {"object": "embedding", "index": number, "embedding": _written(vector, encoding_format)}
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
