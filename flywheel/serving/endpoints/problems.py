"""Errors for clients: a status, a code for programs, and a message that names cause and fix."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ExceptionHandler

from flywheel.operations import OperationError
from flywheel.serving.engine import NothingLive, UnknownModel

_log = logging.getLogger("flywheel.serving")
_STATUS_OF_CODE = {
    "not_found": 404,
    "unknown_version": 404,
    "already_champion": 409,
    "busy": 409,
    "conflict": 409,
    "no_champion": 409,
    "no_previous": 409,
    "sql_busy": 503,
    "stopping": 503,
    "unavailable": 503,
    "unreachable": 503,
}
SEALED = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed"}


class Problem(Exception):  # noqa: N818 - it reads as what it says
    """A refused request; only this text reaches the client."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """`{"error": {"message", "code"}}`, the shape of every error of this API."""
        body = {"error": {"message": self.message, "code": self.code}}
        return JSONResponse(body, status_code=self.status, headers=SEALED | self.headers)


def explain(error: ValidationError) -> str:
    """Every wrong field and why, in one line. It does not repeat what was sent."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def _problem(_: Request, error: Exception) -> JSONResponse:
    match error:
        case Problem():
            return error.response()
        case ValidationError():
            return Problem(400, "invalid_request", explain(error)).response()
        case NothingLive():
            return Problem(503, "not_ready", str(error), {"Retry-After": "5"}).response()
        case UnknownModel():
            return Problem(404, "model_not_found", str(error)).response()
        case OperationError():
            status = _STATUS_OF_CODE.get(error.code, 400)
            later = {"Retry-After": "5"} if status == 503 else {}
            return Problem(status, error.code, str(error), later).response()
        case HTTPException():
            code = _CODE_OF_STATUS.get(error.status_code, "refused")
            return Problem(error.status_code, code, error.detail, error.headers).response()
        case _:
            return _unexpected(error)


def _unexpected(error: Exception) -> JSONResponse:
    """An answer with only a reference for the log, where the server writes the traceback."""
    reference = uuid.uuid4().hex[:12]
    _log.error("request failed, reference %s: %s", reference, type(error).__name__)
    message = f"something went wrong here; the daemon's log has the details under reference {reference}"
    return Problem(500, "internal", message).response()


HANDLERS: dict[type[Exception], ExceptionHandler] = dict.fromkeys(
    (Problem, ValidationError, NothingLive, UnknownModel, OperationError, HTTPException, Exception), _problem
)
