"""Renders an Arrow table as the client asked: a JSON list of objects, CSV, or an Arrow stream.

It renders some rows at a time, so that a large answer never lies in memory as a whole.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response, StreamingResponse

from flywheel.files import answers
from flywheel.serving.endpoints.problems import Problem

if TYPE_CHECKING:
    import pyarrow as pa

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
AS_OF = "X-Flywheel-As-Of"
_PART_BYTES = 1_000_000
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
    """The table as one response; columns of the same name get a number. `X-Flywheel-As-Of` says of when it is."""
    as_of = (table.schema.metadata or {}).get(b"as_of")
    headers = {AS_OF: as_of.decode()} if as_of else {}
    match media_type:
        case "text/csv":
            written, kind = _csv(answers.plain(table)), "text/csv; charset=utf-8; header=present"
        case "application/vnd.apache.arrow.stream":
            written, kind = _arrow(answers.named(table)), ARROW
        case _:
            written, kind = _json(answers.plain(table)), JSON
    if table.nbytes <= _PART_BYTES:
        return Response(b"".join(written), media_type=kind, headers=headers)
    return StreamingResponse(written, media_type=kind, headers=headers)


def _parts(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """The rows in batches of about `_PART_BYTES`; at least one, which may have no row."""
    rows = max(1, table.num_rows * _PART_BYTES // max(table.nbytes, 1))
    yield from table.to_batches(max_chunksize=rows) or table.schema.empty_table().to_batches()


def _json(table: pa.Table) -> Iterator[bytes]:
    before = b"["
    for part in _parts(table):
        if part.num_rows:
            yield before + _ENCODER.encode(part.to_pylist())[1:-1]
            before = b","
    yield b"]" if before == b"," else b"[]"


def _arrow(table: pa.Table) -> Iterator[bytes]:
    import pyarrow as pa

    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for part in _parts(table):
            writer.write_batch(part)
            yield _taken(sink)
    yield _taken(sink)


def _csv(table: pa.Table) -> Iterator[bytes]:
    """Lists and structs become JSON in their cell, bytes become hexadecimal: CSV has neither."""
    from pyarrow import csv

    sink = io.BytesIO()
    header = True
    for part in _parts(table):
        csv.write_csv(_flat(part), sink, csv.WriteOptions(include_header=header))
        header = False
        yield _taken(sink)
    if header:
        csv.write_csv(_flat(table), sink)
        yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    """What was written, which is then forgotten."""
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written


def _flat(table: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
    import pyarrow as pa

    for number, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            cells = [None if value is None else _cell(value) for value in table.column(number).to_pylist()]
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            cells = [None if value is None else value.hex() for value in table.column(number).to_pylist()]
        else:
            continue
        table = table.set_column(number, column.name, pa.array(cells, pa.string()))
    return table


def _cell(value: Any) -> str:
    return json.dumps(json.loads(_ENCODER.encode(value)), ensure_ascii=False)
