"""Figures for Prometheus: requests, counted as they are answered, and the daemon's status, read at each scrape."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flywheel.operations import Json
from flywheel.serving.endpoints.gauges import EXPOSED

_log = logging.getLogger("flywheel.serving")
# an epoch beside each counter says nothing that a scrape does not show
disable_created_metrics()  # type: ignore[no-untyped-call]
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class Requests:
    """ASGI middleware: counts and times requests by route. Unknown paths share one label, so that labels are few."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry, routes: Iterable[str]) -> None:
        self._app = app
        self._prefixes = {route.partition("{")[0]: route for route in routes}
        self._answered = Counter(
            "flywheel_http_requests", "Answered requests.", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "flywheel_http_request_seconds", "Time to answer.", ["route"], registry=registry, buckets=_BUCKETS
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
    """Running totals that are kept elsewhere, read at each scrape; `meaning` is what they count."""

    def __init__(self, prefix: str, totals: Callable[[], Mapping[str, int]], meaning: str) -> None:
        self._prefix, self._totals, self._meaning = prefix, totals, meaning

    def collect(self) -> Iterator[Metric]:
        for name, value in self._totals().items():
            words = f"{self._meaning}: {name.replace('_', ' ')}."
            yield CounterMetricFamily(f"{self._prefix}_{name}", words, value=value)


class House(Collector):
    """The figures of the status that `flywheel.serving.endpoints.gauges` names."""

    def __init__(self, status: Callable[[], Json]) -> None:
        self._status = status

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask for the status."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families, answered = list[Metric](), 1
        try:
            status = self._status()
            families = [exposed.family(status) for exposed in EXPOSED]
        except Exception:  # noqa: BLE001 - a scrape must say that something is wrong, not fail with it
            _log.exception("status could not be read for the metrics")
            answered = 0
        yield GaugeMetricFamily("flywheel_up", "1: the daemon could read its own state.", value=answered)
        yield from (family for family in families if family.samples)
