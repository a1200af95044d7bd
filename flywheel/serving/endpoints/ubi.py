"""Takes UBI records over HTTP (one, a JSON array, or lines of JSON) and hands them to the broker as they came.

202 means that the broker holds them. The answer says what ingestion will leave out: a field, or a whole record, which
then becomes a dead letter. It refuses a request only where no record of it can be read.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from flywheel.operations import Json
from flywheel.serving.endpoints import bodies
from flywheel.serving.endpoints.access.rates import CALLER, RecordRates
from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.endpoints.threads import beside
from flywheel.serving.services import EventPublisher, Judge, NotAcknowledged, TooLarge, TopicKind
from flywheel.settings.load import Limits, Serving

PLAIN = "text/plain"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_RETRY_AFTER_SECONDS = 2
# records read in one go; a body of more is read beside the event loop, with a pause after each slice
_SLICE = 100


def iso(timestamp_ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def split(body: bytes, media_type: str, most: int) -> list[bytes]:
    """The records of a body, each byte for byte as it was sent where JSON can be told apart without reading it.

    Raises:
        Problem: 400 if the body as a whole is no JSON, or holds no record. A line of several may be anything. 413 if it
            holds more than `most`.
    """
    bodies.check_values(body)
    lines = media_type in LINES
    records = [line.strip() for line in body.splitlines() if line.strip()] if lines else _array(body)
    if len(records) > most:
        message = f"the body holds {len(records)} records; send at most {most} at a time (limits.request_records)"
        raise Problem(413, "too_many_records", message)
    if not records:
        raise Problem(400, "empty", "the body holds no record")
    return records


def _array(body: bytes) -> list[bytes]:
    try:
        whole = bytes(msgspec.json.decode(body, type=msgspec.Raw)).strip()
        many = msgspec.json.decode(whole, type=list[msgspec.Raw]) if whole.startswith(b"[") else [whole]
        return [bytes(record).strip() for record in many]
    except RecursionError as error:
        raise Problem(400, "invalid_json", f"the body is not valid JSON: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        loose = _loosely(body)  # a NaN, a line break in a text, half a character
        if loose is None:
            raise Problem(400, "invalid_json", f"the body is not valid JSON: {error}") from None
        return [json.dumps(record).encode() for record in (loose if isinstance(loose, list) else [loose])]


def _loosely(record: bytes) -> Any:
    """The JSON of a record as leniently as ingestion reads it; None where it is none."""
    try:
        return json.loads(record.decode("utf-8-sig", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return None


def completed(kind: TopicKind, record: bytes, now: str) -> bytes:
    """The record with the fields that UBI lets a receiver fill; unchanged if none is missing.

    An event that gets a time gets an id too, the hash of what was sent: without it, a retry of the same bytes would be
    another event.
    """
    sent = _loosely(record)
    if not isinstance(sent, dict):
        return record
    defaults = {"timestamp": now}
    if kind == "queries":
        defaults["query_id"] = str(uuid.uuid4())
    else:
        attributes = sent.get("event_attributes")
        named = sent.get("event_id") or (isinstance(attributes, dict) and attributes.get("event_id"))
        defaults |= {} if named else {"event_id": blake2b(record, digest_size=16).hexdigest()}
    missing = {name: value for name, value in defaults.items() if sent.get(name) in (None, "")}
    if not missing or (kind == "events" and "timestamp" not in missing):
        return record
    return json.dumps(sent | missing).encode()


@dataclass(slots=True)
class Taken:
    """The records of one request: what goes to the broker, and what the answer says of it."""

    payloads: list[bytes] = field(default_factory=list)
    query_ids: list[str | None] = field(default_factory=list)
    ignored: list[Json] = field(default_factory=list)
    accepted: int = 0

    def leave_out(self, number: int, name: str | None, reason: str) -> None:
        """Note a field of a record, or the whole of it (no name). Records count from 1."""
        self.ignored.append({"record": number, "field": name, "reason": reason})


def _readable(taken: Taken) -> Taken:
    """
    Raises:
        Problem: 400 where no record can be read.
    """
    if not taken.accepted:
        more = f" (and so are {len(taken.payloads) - 1} more)" if len(taken.payloads) > 1 else ""
        raise Problem(400, "unreadable", f"record 1 cannot be read: {taken.ignored[0]['reason']}{more}")
    return taken


class UbiEndpoints:
    """`POST /v1/ubi/queries` and `POST /v1/ubi/events`."""

    def __init__(
        self, publisher: EventPublisher, judge: Judge, settings: Serving, limits: Limits, now_ms: Callable[[], int]
    ) -> None:
        self._publisher = publisher
        self._judge = judge
        self._seconds = settings.acknowledge_timeout_ms / 1000
        self._limits = limits
        self._now_ms = now_ms
        self._rates = RecordRates(limits.records_per_second, time.monotonic)
        self._turn = asyncio.Lock()  # one large body at a time, so that many leave processor time for searches

    async def queries(self, request: Request) -> JSONResponse:
        """Take queries. One without an id gets one; the answer lists the ids in the order of the records."""
        taken = await self._take("queries", request)
        return JSONResponse(
            {"accepted": taken.accepted, "ignored": taken.ignored, "query_ids": taken.query_ids}, status_code=202
        )

    async def events(self, request: Request) -> JSONResponse:
        """Take events. One without a time gets the present one."""
        taken = await self._take("events", request)
        return JSONResponse({"accepted": taken.accepted, "ignored": taken.ignored}, status_code=202)

    async def _take(self, kind: TopicKind, request: Request) -> Taken:
        # a browser's `sendBeacon` sends text/plain, as a form can: it is taken only with a token, which no form knows
        plain = (PLAIN,) if CALLER in request.scope else ()
        media_type = bodies.content_type(request, (bodies.JSON, *LINES, *plain))
        self._rates.admit(request.scope)
        body = await bodies.read(request, self._limits.request_bytes)
        most = self._limits.request_records
        records = await bodies.heavy(len(body), lambda: split(body, media_type, most))
        self._rates.check(request.scope, len(records))
        large = len(body) > bodies.LARGE_BYTES or len(records) > _SLICE
        async with self._turn if large else nullcontext():
            taken = await (self._read_in_slices(kind, records) if large else self._read_at_once(kind, records))
        await self._publish(kind, taken)
        return taken

    async def _read_at_once(self, kind: TopicKind, records: Sequence[bytes]) -> Taken:
        taken = Taken()
        self._read(kind, records, taken)
        return _readable(taken)

    async def _read_in_slices(self, kind: TopicKind, records: Sequence[bytes]) -> Taken:
        """Beside the event loop, and after each slice as long a pause: half of one processor is left to searches."""
        taken = Taken()
        for start in range(0, len(records), _SLICE):
            began = time.perf_counter()
            await beside(self._read, kind, records[start : start + _SLICE], taken)
            await asyncio.sleep(time.perf_counter() - began)
        return _readable(taken)

    def _read(self, kind: TopicKind, records: Sequence[bytes], taken: Taken) -> None:
        """Read these records, and add them to those that were read before."""
        now_ms = self._now_ms()
        for number, sent in enumerate(records, start=len(taken.payloads) + 1):
            record = sent
            judged = self._judge(kind, record, None)
            if judged.refused is not None:
                record = completed(kind, sent, iso(now_ms))
                judged = self._judge(kind, record, now_ms)
            if judged.refused is not None:
                # it goes to the broker as it came, and becomes a dead letter that can be replayed
                taken.leave_out(number, None, judged.refused)
                record = sent
            taken.accepted += judged.refused is None
            taken.payloads.append(record)
            taken.query_ids.append(judged.query_id)
            for name, reason in judged.ignored:
                taken.leave_out(number, name, reason)

    async def _publish(self, kind: TopicKind, taken: Taken) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._publisher.publish(kind, taken.payloads)
        except TooLarge as error:
            unread = {item["record"] for item in taken.ignored if item["field"] is None}
            for number, reason in error.reasons.items():
                taken.accepted -= number + 1 not in unread
                taken.leave_out(number + 1, None, reason)
            if not taken.accepted:
                raise Problem(413, "too_large", str(error)) from None
        except (NotAcknowledged, TimeoutError):
            raise Problem(
                503,
                "not_acknowledged",
                f"the broker has not confirmed these {len(taken.payloads)} records; send all of them again, "
                "repeated ones are dropped",
                {"Retry-After": str(_RETRY_AFTER_SECONDS)},
            ) from None
