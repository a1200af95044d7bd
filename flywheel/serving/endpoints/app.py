"""Puts the HTTP API together: routes, access to them, metrics, and what starts and stops with it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flywheel.serving.endpoints.access.cors import CollectingOrigins
from flywheel.serving.endpoints.access.guard import Guard, check_binding
from flywheel.serving.endpoints.access.login import Login
from flywheel.serving.endpoints.access.rates import Rates, WrongTokens
from flywheel.serving.endpoints.access.tokens import Tokens
from flywheel.serving.endpoints.control import ControlEndpoints
from flywheel.serving.endpoints.embeddings import EmbeddingEndpoint
from flywheel.serving.endpoints.pages import PageLog
from flywheel.serving.endpoints.problems import HANDLERS
from flywheel.serving.endpoints.search import SearchEndpoint
from flywheel.serving.endpoints.telemetry import House, Requests, Totals
from flywheel.serving.endpoints.threads import beside
from flywheel.serving.endpoints.ubi import UbiEndpoints
from flywheel.serving.services import Services

_GRACE_SECONDS = 3.0


def wall_clock_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def create_app(services: Services, *, now_ms: Callable[[], int] = wall_clock_ms) -> Starlette:
    """The API over these services.

    Raises:
        flywheel.settings.load.ConfigError: the address is not loopback, and no token is set.
    """
    check_binding(services.settings)
    log = PageLog(services.publisher, timeout_ms=services.settings.page_log_timeout_ms)
    services.registry.register(Totals("flywheel_search", services.search.counts, "Searches"))
    services.registry.register(Totals("flywheel_pages", log.counts, "Records of pages"))
    services.registry.register(House(services.operations.status))
    tokens, wrong = Tokens(services.settings), WrongTokens(time.monotonic)
    login = Login(tokens, wrong, time.time)
    routes = [
        *_routes(services, log, now_ms),
        Route("/login", login.login, methods=["POST"]),
        Route("/logout", login.logout, methods=["POST"]),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log.start()
        yield
        await log.stop(_GRACE_SECONDS)

    # the first is the outer one, so that refusals of the guard are counted too
    middleware = [
        Middleware(Requests, registry=services.registry, routes=[route.path for route in routes]),
        Middleware(CollectingOrigins, origins=services.settings.cors_origins),
        Middleware(Guard, tokens=tokens, wrong=wrong, wall_seconds=time.time),
        Middleware(Rates, per_second=services.limits.requests_per_second, seconds=time.monotonic),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=dict(HANDLERS), lifespan=lifespan)


def _routes(services: Services, log: PageLog, now_ms: Callable[[], int]) -> list[Route]:
    ubi = UbiEndpoints(services.publisher, services.judge, services.settings, services.limits, now_ms)
    search = SearchEndpoint(services.search, log, services.settings, services.limits, services.spans)
    embeddings = EmbeddingEndpoint(services.search, services.operations, services.limits)
    control = ControlEndpoints(services.operations, services.limits)
    probes = Probes(services)
    reads = ("models", "experiments", "triggers", "decisions", "status")
    acts = ("promote", "rollback", "pause", "resume")
    return [
        *services.pages,
        Route("/healthz", probes.alive, methods=["GET"]),
        Route("/readyz", probes.ready, methods=["GET"]),
        Route("/metrics", probes.metrics, methods=["GET"]),
        Route("/v1/ubi/queries", ubi.queries, methods=["POST"]),
        Route("/v1/ubi/events", ubi.events, methods=["POST"]),
        Route("/v1/search", search.search, methods=["POST"]),
        Route("/v1/embeddings", embeddings.embed, methods=["POST"]),
        Route("/openai/v1/embeddings", embeddings.embed, methods=["POST"]),
        Route("/openai/v1/models", embeddings.models, methods=["GET"]),
        Route("/openai/v1/models/{name}", embeddings.model, methods=["GET"]),
        Route("/v1/sql", control.sql, methods=["POST"]),
        Route("/v1/ops/{name}", control.by_name, methods=["POST"]),
        *(Route(f"/v1/{name}", control.read, methods=["GET"]) for name in reads),
        *(Route(f"/v1/{name}", control.act, methods=["POST"]) for name in acts),
    ]


class Probes:
    """Health, readiness and metrics, for orchestrators and monitoring; they need no token."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def alive(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> JSONResponse:
        reasons = await beside(self._services.ready)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await beside(encode, self._services.registry), headers={"Content-Type": content_type})
