"""Spans from a search to its page's log, by OpenTelemetry (extra `otel`); switched off, they cost a function call.

The ids on a span are those of the tables, so that a slow search is found in `queries`, and from there its pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from flywheel.settings.load import ConfigError
from flywheel.settings.watching import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

Value = str | bool | int | float


class Note(Protocol):
    """Writes attributes on a span; those that are None are left out."""

    def __call__(self, **attributes: Value | None) -> None: ...


Spans = Callable[[str, Mapping[str, str]], AbstractContextManager[Note]]
"""Opens a span of this name; the headers of a request say whose trace it belongs to (W3C `traceparent`)."""


def none(name: str, headers: Mapping[str, str]) -> AbstractContextManager[Note]:
    """No span."""
    del name, headers
    return nullcontext(_nothing)


def _nothing(**_: Value | None) -> None:
    """Note nothing."""


def spans_of(tracer: Tracer) -> Spans:
    """Spans of this tracer; one that opens within another is its child."""
    from opentelemetry.propagate import extract

    @contextmanager
    def opened(name: str, headers: Mapping[str, str]) -> Iterator[Note]:
        with tracer.start_as_current_span(name, context=extract(headers) if headers else None) as span:

            def note(**attributes: Value | None) -> None:
                for key, value in attributes.items():
                    if value is not None:
                        span.set_attribute(f"flywheel.{key}", value)

            yield note

    return opened


def exported(settings: Traces) -> Spans:
    """Spans that go to the collector of `settings`, in batches and beside the searches.

    Raises:
        ConfigError: they are asked for, and the extra is not installed.
    """
    if not settings.enabled:
        return none
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise ConfigError(
            "traces.enabled needs the extra otel: pip install 'flywheel-search[otel]', or set it to false"
        ) from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.share)), resource=Resource.create({"service.name": "flywheel"})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint or None)))
    return spans_of(provider.get_tracer("flywheel"))
