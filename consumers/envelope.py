"""The bytes of a message -> the record within: JSON as it is really sent, out of the envelopes of other programs.

A schema registry's prefix, Kafka Connect, Debezium, CloudEvents and OpenSearch's hits are taken off. What is in a
format that is not read (Avro, Protobuf) is named.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import msgspec

from consumers.values import Undecodable, Unreadable, read_id

Record = dict[str, Any]
# a record with one of these at its top is no envelope
_OURS = frozenset({"action_name", "user_query", "query_id", "doc_id", "query_response_hit_ids"})
_DEEPEST = 4  # envelopes within envelopes: a registry's prefix around Connect around Debezium
_MOST_DIGITS = 19  # a longer whole number is read as a fraction, which is what most programs do
_REGISTRY_BYTES = 5  # a zero byte, and the schema's id


def read_object(value: bytes) -> Record:
    """The record in `value`.

    Raises:
        Undecodable: no JSON object, or only an envelope.
    """
    if value[:1] == b"\0" and len(value) > _REGISTRY_BYTES:
        found = parse(value[_REGISTRY_BYTES:], registered=int.from_bytes(value[1:_REGISTRY_BYTES], "big"))
    else:
        found = parse(value)
    if not isinstance(found, dict):
        raise Undecodable("no JSON object")
    record: Record = found
    for _ in range(_DEEPEST):
        if not _OURS.isdisjoint(record):
            break
        inner = _within(record)
        if inner is record:
            break
        record = inner
    return record


def parse(value: bytes, registered: int | None = None) -> Any:
    """The JSON in `value`. Half a character, a NaN or a line break in a text do not make the rest unreadable.

    Raises:
        Undecodable: no JSON.
    """
    try:
        return msgspec.json.decode(value)
    except RecursionError as error:
        raise Undecodable("nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        first = error
    try:
        # what is not UTF-8 becomes half a character, and `consumers.values` sees to those
        text = value.decode("utf-8-sig", "surrogateescape")
        return json.loads(text, strict=False, parse_int=_whole)
    except RecursionError as error:
        raise Undecodable("nested too deeply") from error
    except ValueError as error:
        raise Undecodable(_not_json(value, first, registered)) from error


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _not_json(value: bytes, error: Exception, registered: int | None) -> str:
    if registered is not None:
        return f"schema {registered} of a registry is not JSON Schema (Avro or Protobuf?); send JSON"
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "not UTF-8 but UTF-16; send UTF-8"
    if value[:4] == b"Obj\x01":
        return "an Avro file; send JSON"
    try:
        value.decode()
    except UnicodeDecodeError as problem:
        return f"not UTF-8: {problem.reason} at byte {problem.start}"
    return str(error)[:300]


def _within(record: Record) -> Record:
    """What the envelope holds; the record itself where it is none."""
    if "specversion" in record and ("data" in record or "data_base64" in record):
        return _cloud_event(record)
    if "payload" in record and (record.keys() <= {"schema", "payload"} or isinstance(record.get("schema"), dict)):
        return _object(record["payload"], "the payload of Kafka Connect")
    if "op" in record and ("after" in record or "before" in record):
        return _debezium(record)
    if isinstance(record.get("_source"), dict):
        source = dict(record["_source"])
        if _OURS.isdisjoint(source):  # a document, whose id stands beside it
            source.setdefault("doc_id", record.get("_id"))
        return source
    return record


def _cloud_event(record: Record) -> Record:
    if "data" in record:
        return _object(record["data"], "the data of a CloudEvent")
    try:
        data = b64decode(str(record["data_base64"]), validate=True)
    except ValueError as error:
        raise Undecodable("data_base64 of a CloudEvent is no base64", "data_base64") from error
    return _object(parse(data), "the data of a CloudEvent")


def _debezium(record: Record) -> Record:
    after = record.get("after")
    if after is not None:
        return _object(after, "after of Debezium")
    if record["op"] != "d":
        raise Undecodable("a change of Debezium without a row after it", "after")
    # a deletion; only documents know one, and its own time is that of the change
    row = _object(record.get("before"), "before of Debezium")
    row = {name: value for name, value in row.items() if name in ("doc_id", "_id", "id")}
    return row | {"deleted": True, "updated_at": record.get("ts_ms")}


def _object(value: Any, what: str) -> Record:
    if isinstance(value, str):  # JSON within JSON, as string converters write it
        value = parse(value.encode("utf-8", "surrogatepass"))
    if not isinstance(value, dict):
        raise Undecodable(f"{what} is no JSON object")
    return value


def read_key(key: bytes | None) -> str | None:
    """The document's id in a message's key: as text, or as JSON (a text, an object, Kafka Connect's envelope).

    Raises:
        Undecodable: JSON that names no document.
    """
    if key is None:
        return None
    if key[:1] == b"\0" and len(key) > _REGISTRY_BYTES:
        key = key[_REGISTRY_BYTES:]
    try:
        value: Any = key.decode()
        if value.lstrip()[:1] in ('"', "{"):
            value = _id_of(parse(key))
        return read_id(value)
    except UnicodeDecodeError as error:
        raise Undecodable("the message's key is not UTF-8", "key") from error
    except Unreadable as problem:
        raise Undecodable(f"the message's key {problem}", "key") from problem


def _id_of(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() <= {"schema", "payload"} and "payload" in value:
        return _id_of(value["payload"])
    for name in ("doc_id", "_id", "id"):
        if name in value:
            return value[name]
    if len(value) == 1:  # a table's key of another name
        return next(iter(value.values()))
    raise Undecodable("the message's key names no doc_id", "key")
