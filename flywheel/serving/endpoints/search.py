"""`POST /v1/search`: checks the request, ranks beside the event loop, and logs the page before it answers."""

from __future__ import annotations

import anyio.to_thread
from anyio import CapacityLimiter
from pydantic import ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse

from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.bodies import Body
from flywheel.serving.endpoints.pages import PageLog
from flywheel.serving.ranking import Filters
from flywheel.serving.served import Page
from flywheel.serving.services import SearchService
from flywheel.serving.tracing import Spans, none
from flywheel.settings.load import Limits, Serving

MOST_HITS = 1_000
_SEARCHES_AT_ONCE = 32


class FilterRequest(Body):
    """The filters of a search. An unknown one is an error: ignored, it would show what should be hidden."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    doc_ids: list[str] | None = Field(None, max_length=10_000)


class SearchRequest(Body):
    query: str = Field(max_length=4_096)
    k: int | None = Field(None, ge=1, le=MOST_HITS)
    client_id: str | None = Field(None, max_length=200)
    session_id: str | None = Field(None, max_length=200)
    filters: FilterRequest | None = None

    @field_validator("query")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value.strip()


class SearchEndpoint:
    def __init__(
        self, search: SearchService, log: PageLog, settings: Serving, limits: Limits, spans: Spans = none
    ) -> None:
        self._search = search
        self._log = log
        self._settings = settings
        self._limits = limits
        self._spans = spans
        self._threads = CapacityLimiter(_SEARCHES_AT_ONCE)

    async def search(self, request: Request) -> JSONResponse:
        wish = await bodies.parse(request, SearchRequest, self._limits.request_bytes)
        with self._spans("search", request.headers) as note:
            with self._spans("rank", {}):
                page = await anyio.to_thread.run_sync(lambda: self._page(wish), limiter=self._threads)
            note(query_id=page.query_id, version=page.model_version, experiment_id=page.experiment_id, arm=page.arm)
            note(hits=len(page.hits))
            with self._spans("log page", {}) as noted:
                noted(acknowledged=await self._log.log(page))
        return JSONResponse(page.answer())

    def _page(self, wish: SearchRequest) -> Page:
        allowed = wish.filters.doc_ids if wish.filters else None
        return self._search.search(
            wish.query,
            wish.k or self._settings.default_k,
            client_id=wish.client_id or None,
            session_id=wish.session_id or None,
            filters=Filters(doc_ids=None if allowed is None else tuple(allowed)),
        )
