"""Reads request bodies: bounded in size and time, of an allowed type, and valid JSON before any field is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect, Request

from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.endpoints.threads import beside

JSON = "application/json"
READ_SECONDS = 60.0  # a slow client must not hold a connection for ever
LARGE_BYTES = 65_536  # decoding more than this would hold up the event loop
# Python's values take far more memory than their JSON, and most of all small ones: "[]," becomes 56 bytes and more
_FEW_VALUES, _BYTES_A_VALUE = 100_000, 32
_GONE = 499  # nginx's status for a client that left; nobody reads it but our own figures
R = TypeVar("R")
T = TypeVar("T", bound=BaseModel)


class Body(BaseModel):
    """What a client sends; unknown keys are ignored, so that clients may be newer than the daemon."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


async def read(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 above `limit` bytes, as soon as that is certain; 408 if it arrives too slowly.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except ClientDisconnect:
        raise Problem(_GONE, "client_left", "the client left before its body had arrived") from None
    except TimeoutError:
        raise Problem(408, "too_slow", f"the body did not arrive within {READ_SECONDS:.0f} seconds") from None
    return b"".join(chunks)


def _too_large(limit: int) -> Problem:
    message = f"the body is larger than {limit} bytes; send smaller batches or raise the setting under [limits]"
    return Problem(413, "too_large", message, {"Connection": "close"})


def content_type(request: Request, allowed: Collection[str]) -> str:
    """The media type without its parameters.

    Raises:
        Problem: 415 for any other than the allowed ones.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        wanted = " or ".join(allowed)
        raise Problem(415, "unsupported_media_type", f"send Content-Type {wanted}, not {given or 'none'}")
    return given


def check_values(body: bytes) -> None:
    """Refuse, before anything is read, what would take far more memory and time than its bytes.

    Raises:
        Problem: 413 if the body holds more values than one of its size may.
    """
    values = sum(body.count(sign) for sign in (b",", b"[", b"{"))
    if values > max(_FEW_VALUES, len(body) // _BYTES_A_VALUE):
        raise Problem(413, "too_many_values", f"the body holds {values} values; send smaller batches")


def decode(body: bytes) -> Any:
    """The JSON of `body` as plain values.

    Raises:
        Problem: 400 if it is no JSON; 413 if it holds more values than a body of its size may.
    """
    check_values(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Problem(400, "invalid_json", f"the body is not valid JSON: {error}") from None


async def parse(request: Request, model: type[T], limit: int) -> T:
    """The body as `model`; an empty one, of any type, counts as `{}`.

    Raises:
        Problem, pydantic.ValidationError
    """
    body = await read(request, limit)
    if body or "content-type" in request.headers:
        content_type(request, (JSON,))
    return await heavy(len(body), lambda: model.model_validate(decode(body) if body else {}))


async def heavy(size: int, work: Callable[[], R]) -> R:
    """Run `work`, which takes the longer the larger `size` (bytes) is; beside the event loop where that is long."""
    return await beside(work) if size > LARGE_BYTES else work()
