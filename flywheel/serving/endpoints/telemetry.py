"""Figures for Prometheus: requests, counted as they are answered, and the daemon's status, read at each scrape."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.operations import Json

_log = logging.getLogger("flywheel.serving")
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


class Requests:
    """ASGI middleware: counts and times requests by route. Unknown paths share one label, so that labels are few."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry, routes: Iterable[str]) -> None:
        self._app = app
        self._prefixes = {route.partition("{")[0]: route for route in routes}
        self._answered = Counter(
            "flywheel_http_requests", "Answered requests", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "flywheel_http_request_seconds", "Time to answer", ["route"], registry=registry, buckets=_BUCKETS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = self._route(scope["path"])
            # a client may invent methods, and each would be a label of its own
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
            self._answered.labels(route, method, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)

    def _route(self, path: str) -> str:
        if path in self._prefixes:
            return path
        return next(
            (route for prefix, route in self._prefixes.items() if "{" in route and path.startswith(prefix)), "other"
        )


class Totals(Collector):
    """Running totals that are kept elsewhere, read at each scrape."""

    def __init__(self, prefix: str, totals: Callable[[], Mapping[str, int]]) -> None:
        self._prefix = prefix
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        for name, value in self._totals().items():
            yield CounterMetricFamily(f"{self._prefix}_{name}", name.replace("_", " ").capitalize(), value=value)


class House(Collector):
    """Every number in `status` as a gauge, named after its path: `status.ingest.lag` is `flywheel_ingest_lag`."""

    def __init__(self, status: Callable[[], Json]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask for the status."""
        return ()

    def collect(self) -> Iterator[Metric]:
        answered = 1
        try:
            numbers = dict(_numbers(self._status(), "flywheel"))
        except Exception:  # noqa: BLE001 - a scrape must say that something is wrong, not fail with it
            _log.exception("status could not be read for the metrics")
            numbers, answered = {}, 0
        yield GaugeMetricFamily("flywheel_up", "Whether the status could be read", value=answered)
        for name, value in numbers.items():
            yield GaugeMetricFamily(name, "From `flywheel status`", value=value)


def _numbers(value: object, name: str) -> Iterator[tuple[str, float]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _numbers(inner, f"{name}_{_NOT_IN_A_NAME.sub('_', str(key))}")
        case bool() | int() | float():
            yield name, float(value)
        case _:
            return
