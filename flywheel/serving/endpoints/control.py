"""`Operations` over HTTP, with checked arguments, and read-only SQL for analysts."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import AliasChoices, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from flywheel.operations import Json, JudgedKind, Operations, RecordKind
from flywheel.serving.endpoints import bodies, tables
from flywheel.serving.endpoints.access.rates import CALLER
from flywheel.serving.endpoints.bodies import Body
from flywheel.serving.endpoints.problems import Problem
from flywheel.serving.endpoints.threads import beside
from flywheel.settings.choices import TierChoice
from flywheel.settings.load import Limits

SQL_TEXT = "application/sql"
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_WORD = Field(min_length=1, max_length=200)
_REASON = Field("by hand", max_length=2_000)


class Nothing(Body):
    """No arguments."""


class CycleBody(Body):
    wait: bool = False
    tier: TierChoice | None = None


class Promote(Body):
    version: str = _WORD
    reason: str = _REASON
    actor: str = Field("http", min_length=1, max_length=200)


class Rollback(Body):
    reason: str = _REASON
    actor: str = Field("http", min_length=1, max_length=200)


class ImportRecords(Body):
    kind: RecordKind
    records: list[Json]

    @model_validator(mode="after")
    def _judged(self) -> ImportRecords:
        """An annotation is read here; documents and feedback are judged one by one where they are stored."""
        if self.kind == "annotations":
            for record in self.records:
                Annotation.model_validate(record)
        return self


class Annotation(Body):
    query: str
    doc_id: str
    grade: float = Field(allow_inf_nan=False)


class JudgedQuery(Body):
    id: str
    text: str


class Judgement(Body):
    query_id: str
    doc_id: str
    grade: float = Field(allow_inf_nan=False)


class ImportJudged(Body):
    kind: JudgedKind
    name: str = _WORD
    queries: list[JudgedQuery]
    judgements: list[Judgement]


class EraseUser(Body):
    user_id: str = _WORD


class Lately(Body):
    minutes: float = Field(60.0, gt=0, le=527_040)


class ReplayLetters(Body):
    reason: str | None = None
    field: str | None = None
    topic: str | None = None


class Letters(ReplayLetters):
    limit: int = Field(100, ge=1, le=10_000)


class Letter(Body):
    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class Configure(Body):
    key: str = _WORD
    value: str = Field(max_length=10_000)
    actor: str = Field("http", min_length=1, max_length=200)


class BackupTo(Body):
    path: str = Field(min_length=1, max_length=4_000)


class Statement(Body):
    statement: str = Field(min_length=1, validation_alias=AliasChoices("query", "statement", "sql"))


# the operations that may be called by name, each with its arguments; `sql` has its own endpoint and formats
ALLOWED: dict[str, type[Body]] = {
    "status": Nothing,
    "models": Nothing,
    "experiments": Nothing,
    "triggers": Nothing,
    "decisions": Nothing,
    "seen_documents": Nothing,
    "doctor": Nothing,
    "cycle": CycleBody,
    "promote": Promote,
    "rollback": Rollback,
    "pause": Nothing,
    "resume": Nothing,
    "import_records": ImportRecords,
    "import_judged": ImportJudged,
    "erase_user": EraseUser,
    "arrivals": Lately,
    "dead_letters": Letters,
    "dead_letter": Letter,
    "replay_dead_letters": ReplayLetters,
    "configure": Configure,
    "backup": BackupTo,
}
_LARGE = ("import_records", "import_judged")


def _json(value: Any) -> Response:
    """The value as JSON; NaN becomes null, because JSON has none."""
    return Response(_ENCODER.encode(value), media_type=bodies.JSON)


def _signed(arguments: Body, request: Request) -> Body:
    """The arguments with the name of the token as the actor: who acts does not choose under which name."""
    caller = request.scope.get(CALLER)
    if caller is None or "actor" not in type(arguments).model_fields:
        return arguments
    told = f" ({arguments.actor})" if "actor" in arguments.model_fields_set else ""  # type: ignore[attr-defined]
    return arguments.model_copy(update={"actor": f"{caller.name}{told}"})


class ControlEndpoints:
    """Each call runs beside the event loop, so that a slow one delays no search."""

    def __init__(self, operations: Operations, limits: Limits) -> None:
        self._operations = operations
        self._limits = limits

    async def read(self, request: Request) -> Response:
        """`GET /v1/models`, `/v1/experiments`, `/v1/triggers`, `/v1/decisions`, `/v1/status`."""
        return _json(await self._call(request.url.path.rsplit("/", 1)[-1], Nothing()))

    async def act(self, request: Request) -> Response:
        """`POST /v1/promote`, `/v1/rollback`, `/v1/pause`, `/v1/resume`."""
        name = request.url.path.rsplit("/", 1)[-1]
        arguments = await bodies.parse(request, ALLOWED[name], self._limits.request_bytes)
        return _json(await self._call(name, _signed(arguments, request)))

    async def by_name(self, request: Request) -> Response:
        """`POST /v1/ops/{name}`, by which our own commands reach a running daemon."""
        name = request.path_params["name"]
        if name not in ALLOWED:
            raise Problem(404, "not_found", f"there is no operation {name!r}; there are {', '.join(sorted(ALLOWED))}")
        limit = self._limits.import_bytes if name in _LARGE else self._limits.request_bytes
        arguments = await bodies.parse(request, ALLOWED[name], limit)
        return _json(await self._call(name, _signed(arguments, request)))

    async def sql(self, request: Request) -> Response:
        """`POST /v1/sql`: one read-only statement, as `{"query": "select ..."}` or as text of its own type."""
        media_type = tables.negotiate(request.headers.get("accept", ""))
        kind = bodies.content_type(request, (bodies.JSON, SQL_TEXT))
        body = await bodies.read(request, self._limits.request_bytes)
        values: Any = {"query": body.decode("utf-8", "replace")} if kind == SQL_TEXT else bodies.decode(body)
        statement = Statement.model_validate(values).statement
        return await beside(lambda: tables.render(self._operations.sql(statement), media_type))

    async def _call(self, name: str, arguments: Body) -> Any:
        method = getattr(self._operations, name)
        return await beside(method, **arguments.model_dump())
