"""Makes an answer of SQL writable in any form: names that differ, and text where Python has no moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flywheel.files import cells

if TYPE_CHECKING:
    import pyarrow as pa

# what DuckDB writes for infinity: the largest moment (and, in days, the largest date) and its opposite
_INFINITE = {64: (2**63 - 1, -(2**63 - 1)), 32: (2**31 - 1, -(2**31 - 1))}


def distinct(names: list[str]) -> list[str]:
    """The names, each once: a repeated one gets the first free number from 2 on."""
    taken = set(names)
    once: list[str] = []
    used: set[str] = set()
    for name in names:
        free, number = name, 2
        while free in used or (free != name and free in taken):
            free, number = f"{name}_{number}", number + 1
        used.add(free)
        once.append(free)
    return once


def named(table: pa.Table) -> pa.Table:
    """The table with a name of its own for each column; `a, a` becomes `a, a_2`."""
    return table.rename_columns(distinct(table.column_names))


def plain(table: pa.Table) -> pa.Table:
    """The table `named`, with ISO 8601 texts for columns of moments that Python has no value for: years before 1 and
    after 9999, infinity, nanoseconds. Nested columns with such moments become JSON texts.
    """
    import pyarrow as pa

    table = named(table)
    for place, column in enumerate(table.schema):
        values = table.column(place)
        if _is_moment(column.type):
            exact = _in_microseconds(values)
            if exact is not None and _has_value(exact):
                table = table.set_column(place, column.name, exact)
                continue
            texts = [_iso(scalar) for scalar in values]
        elif pa.types.is_nested(column.type) and not _has_value(values):
            texts = [None if not scalar.is_valid else _json(scalar) for scalar in values]
        else:
            continue
        table = table.set_column(place, column.name, pa.array(texts, pa.string()))
    return table


def _is_moment(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind))


def _in_microseconds(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Moments at the resolution that Python has; None where nanoseconds would be lost."""
    import pyarrow as pa

    kind = values.type
    if getattr(kind, "unit", "us") != "ns":
        return values
    try:
        return values.cast(pa.time64("us") if pa.types.is_time(kind) else pa.timestamp("us", kind.tz))
    except pa.ArrowInvalid:
        return None


def _has_value(values: pa.ChunkedArray) -> bool:
    """Whether Python has a value for each cell."""
    try:
        values.to_pylist()
    except (ValueError, OverflowError):
        return False
    return True


def _json(scalar: pa.Scalar) -> str:
    return json.dumps(_value(scalar), ensure_ascii=False, default=cells.shown)


def _value(scalar: pa.Scalar) -> Any:
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    if _is_moment(scalar.type):
        return _iso(scalar)
    if pa.types.is_struct(scalar.type):
        return {field.name: _value(scalar[place]) for place, field in enumerate(scalar.type)}
    if pa.types.is_nested(scalar.type) and hasattr(scalar, "values"):
        return [_value(inner) for inner in scalar.values]
    return scalar.as_py()


def _iso(scalar: pa.Scalar) -> str | None:
    """A moment as ISO 8601, with as many digits for the year as it needs; infinity by its name."""
    import numpy as np
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    kind = scalar.type
    ticks = int(scalar.value)
    if pa.types.is_time(kind):
        return str(np.datetime64(ticks, kind.unit)).partition("T")[2]
    most, least = _INFINITE[kind.bit_width]
    if ticks in (most, least):
        return "infinity" if ticks == most else "-infinity"
    if pa.types.is_date(kind):
        days = ticks if kind.bit_width == 32 else ticks // 86_400_000
        return _year(str(np.datetime64(days, "D")))
    return _year(str(np.datetime64(ticks, kind.unit))) + ("Z" if kind.tz else "")


def _year(moment: str) -> str:
    """ISO 8601 has four digits at least: the year before year 0 is -0001."""
    sign, rest = ("-", moment[1:]) if moment.startswith("-") else ("", moment)
    year, dash, more = rest.partition("-")
    return f"{sign}{year:0>4}{dash}{more}"
