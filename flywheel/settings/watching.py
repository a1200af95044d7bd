"""Settings of what tells people how it goes: the log, webhooks and traces."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from flywheel.settings.sections import Section

WebhookEvent = Literal["promotion", "rejection", "rollback", "void", "stalled"]


class Logs(Section):
    format: Literal["text", "json"] = Field("text", description="json: one object a line, for a log collector")
    repeat_seconds: float = Field(60.0, ge=0, description="time after which the same warning is told again")


class Webhooks(Section):
    url: str = Field("", description="where events are posted as JSON; empty: nowhere")
    secret: str | None = Field(
        None, description="key of the signature in X-Flywheel-Signature; better set in the environment"
    )
    events: tuple[WebhookEvent, ...] = Field(get_args(WebhookEvent), description="which events are posted")
    stalled_seconds: float = Field(300.0, gt=0, description="how long ingestion stands still before that is an event")
    timeout_seconds: float = Field(10.0, gt=0, description="how long the receiver may take to answer")


class Traces(Section):
    enabled: bool = Field(False, description="record searches as OpenTelemetry spans (needs the extra otel)")
    endpoint: str = Field(
        "", description="OTLP over HTTP, as http://collector:4318/v1/traces; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says"
    )
    share: float = Field(0.01, ge=0, le=1, description="share of searches that begin a trace of their own")
