"""Takes UBI records over HTTP (one, a JSON array, or lines of JSON) and hands them to the broker as they came.

202 means that the broker holds all of them. It refuses only what is no JSON object: ingestion judges the records, and
keeps those that it cannot read.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.access.rates import CALLER, RecordRates
from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.services import EventPublisher, NotAcknowledged, TopicKind
from flywheel.settings.load import Limits, Serving

PLAIN = "text/plain"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_RETRY_AFTER_SECONDS = 2
Taken = TypeVar("Taken")


def iso(timestamp_ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def split(body: bytes, media_type: str, most: int) -> list[bytes]:
    """The records of a body, each byte for byte as it was sent.

    Raises:
        Problem: 400 if the body is no JSON, holds no record, or holds one that is no JSON object (the first is named);
            413 if it holds more than `most`.
    """
    bodies.check_values(body)
    try:
        if media_type in LINES:
            records = [msgspec.json.decode(line, type=msgspec.Raw) for line in body.splitlines() if line.strip()]
        else:
            whole = msgspec.json.decode(body, type=msgspec.Raw)
            many = bytes(whole).lstrip().startswith(b"[")
            records = msgspec.json.decode(body, type=list[msgspec.Raw]) if many else [whole]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Problem(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    if len(records) > most:
        message = f"the body holds {len(records)} records; send at most {most} at a time (limits.request_records)"
        raise Problem(413, "too_many_records", message)
    for number, record in enumerate(records, start=1):
        if not bytes(record).lstrip().startswith(b"{"):
            raise Problem(400, "invalid_record", f"record {number} is no JSON object")
    if not records:
        raise Problem(400, "empty", "the body holds no record")
    return [bytes(record).strip() for record in records]


def complete(record: bytes, **defaults: str) -> tuple[bytes, dict[str, Any]]:
    """The record with the fields that UBI lets a receiver fill; unchanged if none is missing."""
    fields: dict[str, Any] = bodies.decode(record)
    missing = {name: value for name, value in defaults.items() if fields.get(name) in (None, "")}
    if not missing:
        return record, fields
    fields |= missing
    return msgspec.json.encode(fields), fields


def complete_event(record: bytes, now: str) -> bytes:
    """The event with a time. An event that gets one gets an id too, the hash of what was sent: without it, a retry of
    the same bytes would be another event."""
    sent: dict[str, Any] = bodies.decode(record)
    if sent.get("timestamp") not in (None, ""):
        return record
    attributes = sent.get("event_attributes")
    named = sent.get("event_id") or (isinstance(attributes, dict) and attributes.get("event_id"))
    identity = {} if named else {"event_id": blake2b(record, digest_size=16).hexdigest()}
    return msgspec.json.encode(sent | {"timestamp": now} | identity)


class UbiEndpoints:
    """`POST /v1/ubi/queries` and `POST /v1/ubi/events`."""

    def __init__(self, publisher: EventPublisher, settings: Serving, limits: Limits, now_ms: Callable[[], int]) -> None:
        self._publisher = publisher
        self._seconds = settings.acknowledge_timeout_ms / 1000
        self._limits = limits
        self._now_ms = now_ms
        self._rates = RecordRates(limits.records_per_second, time.monotonic)
        self._turn = asyncio.Lock()  # one large body at a time, so that many leave processor time for searches

    async def queries(self, request: Request) -> JSONResponse:
        """Take queries. One without an id gets one; the answer lists the ids in the order of the records."""
        now = iso(self._now_ms())
        filled = await self._take(request, lambda record: complete(record, query_id=str(uuid.uuid4()), timestamp=now))
        await self._publish("queries", [payload for payload, _ in filled])
        query_ids = [str(fields["query_id"]) for _, fields in filled]
        return JSONResponse({"accepted": len(filled), "query_ids": query_ids}, status_code=202)

    async def events(self, request: Request) -> JSONResponse:
        now = iso(self._now_ms())
        payloads = await self._take(request, lambda record: complete_event(record, now))
        await self._publish("events", payloads)
        return JSONResponse({"accepted": len(payloads)}, status_code=202)

    async def _take(self, request: Request, completed: Callable[[bytes], Taken]) -> list[Taken]:
        # a browser's `sendBeacon` sends text/plain, as a form can: it is taken only with a token, which no form knows
        plain = (PLAIN,) if CALLER in request.scope else ()
        media_type = bodies.content_type(request, (bodies.JSON, *LINES, *plain))
        self._rates.admit(request.scope)
        body = await bodies.read(request, self._limits.request_bytes)
        most = self._limits.request_records
        async with self._turn if len(body) > bodies.LARGE_BYTES else nullcontext():
            records = await bodies.heavy(len(body), lambda: split(body, media_type, most))
            self._rates.check(request.scope, len(records))
            return await bodies.heavy(len(body), lambda: [completed(record) for record in records])

    async def _publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._publisher.publish(kind, payloads)
        except (NotAcknowledged, TimeoutError):
            raise Problem(
                503,
                "not_acknowledged",
                f"the broker has not confirmed these {len(payloads)} records; send all of them again, "
                "repeated ones are dropped",
                {"Retry-After": str(_RETRY_AFTER_SECONDS)},
            ) from None
