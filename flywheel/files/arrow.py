"""Turns columns of Arrow into the cells of `flywheel.files.cells`, by their types and without pandas."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flywheel.files.cells import UnreadableCell

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Arrow's moments without a zone count from here
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def column(array: pa.Array) -> list[Any]:
    """The cells of an Arrow array as JSON would have them, without pandas: bytes as text, moments as ISO 8601 in UTC
    (cut to microseconds), NaN and NaT as nothing, maps as objects. What has no such form is `UnreadableCell`.
    """
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        uuid = kind.extension_name == "arrow.uuid"
        return [_uuid(cell) for cell in array.storage.to_pylist()] if uuid else column(array.storage)
    if pa.types.is_dictionary(kind):
        return column(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return [column(pa.array([cell], kind.value_type))[0] for cell in array.to_pylist()]
    if pa.types.is_timestamp(kind):
        return [_moment(ticks, kind.unit) for ticks in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_time(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return [_clock(ticks, kind.unit) for ticks in array.cast(width).to_pylist()]
    if pa.types.is_duration(kind):
        ticks = array.cast(pa.int64()).to_pylist()
        return [None if tick is None else tick / _PER_SECOND[kind.unit] for tick in ticks]
    if pa.types.is_struct(kind):
        fields = [column(array.field(number)) for number in range(kind.num_fields)]
        names, there = [field.name for field in kind], array.is_valid().to_pylist()
        return [
            dict(zip(names, cells, strict=True)) if valid else None
            for valid, *cells in zip(there, *fields, strict=True)
        ]
    if pa.types.is_map(kind):
        return [_entries(scalar) for scalar in array]
    if _is_list(kind):
        return [column(scalar.values) if scalar.is_valid else None for scalar in array]
    try:
        return [_known(cell) for cell in array.to_pylist()]
    except (ValueError, OverflowError, ArithmeticError, NotImplementedError):  # one cell has no form: which?
        return [_plain(scalar) for scalar in array]


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in (*tests, pa.types.is_list_view, pa.types.is_large_list_view))


def _plain(scalar: pa.Scalar) -> Any:
    try:
        return _known(scalar.as_py())
    except UnicodeDecodeError:
        return UnreadableCell("bytes that are no UTF-8")
    except (ValueError, OverflowError, ArithmeticError, NotImplementedError):
        return UnreadableCell(f"a {scalar.type} that no calendar has")


def _known(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("utf-8")
        case float() if not math.isfinite(value):
            return None if math.isnan(value) else UnreadableCell("an infinity")
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case None | str() | bool() | int() | float():
            return value
        case _:
            return UnreadableCell(f"a {type(value).__name__}")


def _moment(ticks: int | None, unit: str) -> Any:
    if ticks is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=ticks * 1_000_000 // _PER_SECOND[unit])
    except OverflowError:
        return UnreadableCell("a moment before year 1 or after year 9999")
    return moment.replace(tzinfo=UTC).isoformat()


def _clock(ticks: int | None, unit: str) -> Any:
    if ticks is None:
        return None
    return (_EPOCH + timedelta(microseconds=ticks * 1_000_000 // _PER_SECOND[unit])).time().isoformat()


def _entries(scalar: pa.MapScalar) -> Any:
    if not scalar.is_valid:
        return None
    names, values = column(scalar.values.field(0)), column(scalar.values.field(1))
    return {str(name): value for name, value in zip(names, values, strict=True)}


def _uuid(cell: Any) -> Any:
    return str(UUID(bytes=cell)) if isinstance(cell, bytes) else None
