"""Renders an Arrow table as the client asked: a JSON list of objects, CSV, or an Arrow stream."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from flywheel.files import answers
from flywheel.serving.endpoints.problems import Problem

if TYPE_CHECKING:
    import pyarrow as pa

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def negotiate(accept: str) -> str:
    """The first acceptable type that can be rendered; JSON if any type will do.

    Raises:
        Problem: 406 if none can.
    """
    for wanted in accept.split(",") if accept.strip() else ["*/*"]:
        media_type = wanted.partition(";")[0].strip().lower()
        if media_type in ("*/*", "application/*"):
            return JSON
        if media_type == "text/*":
            return CSV
        if media_type in (JSON, CSV, ARROW):
            return media_type
    raise Problem(406, "not_acceptable", f"Accept must name {JSON}, {CSV} or {ARROW}")


def render(table: pa.Table, media_type: str) -> Response:
    """The whole table as one response; columns of the same name get a number."""
    match media_type:
        case "text/csv":
            return Response(_csv(answers.plain(table)), media_type="text/csv; charset=utf-8; header=present")
        case "application/vnd.apache.arrow.stream":
            return Response(_arrow(answers.named(table)), media_type=ARROW)
        case _:
            return Response(_ENCODER.encode(answers.plain(table).to_pylist()), media_type=JSON)


def _arrow(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _csv(table: pa.Table) -> bytes:
    """The table as CSV. Lists and structs become JSON in their cell, bytes become hexadecimal: CSV has neither."""
    import pyarrow as pa
    from pyarrow import csv

    for number, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            cells = [None if value is None else _cell(value) for value in table.column(number).to_pylist()]
            table = table.set_column(number, column.name, pa.array(cells, pa.string()))
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            cells = [None if value is None else value.hex() for value in table.column(number).to_pylist()]
            table = table.set_column(number, column.name, pa.array(cells, pa.string()))
    sink = io.BytesIO()
    csv.write_csv(table, sink)
    return sink.getvalue()


def _cell(value: Any) -> str:
    return json.dumps(json.loads(_ENCODER.encode(value)), ensure_ascii=False)
