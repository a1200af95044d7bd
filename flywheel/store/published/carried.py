"""Casts what Arrow has no type for to text, so that an answer never shows another value than the database holds."""

from __future__ import annotations

import duckdb
from duckdb.sqltypes import DuckDBPyType

# UHUGEINT would arrive as a signed number, TIME WITH TIME ZONE without its zone, the others as bytes
_NO_ARROW_TYPE = frozenset({"uhugeint", "time with time zone", "bit", "bignum", "interval"})
_NESTED = frozenset({"struct", "list", "array", "map", "union"})


def carried(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The relation, with text in the columns whose type, or a part of it, Arrow cannot carry."""
    lost = [_is_lost(kind) for kind in relation.types]
    if not any(lost):
        return relation
    # by place, because two columns may have one name; the names are put back
    columns = ", ".join(
        f"#{place}{'::VARCHAR' if text else ''} AS {_quoted(name)}"
        for place, (text, name) in enumerate(zip(lost, relation.columns, strict=True), 1)
    )
    return relation.project(columns)


def _is_lost(kind: object) -> bool:
    if not isinstance(kind, DuckDBPyType):
        return False  # the size of an array is listed beside its type
    if kind.id in _NESTED:
        return any(_is_lost(inner) for _, inner in kind.children)
    return kind.id in _NO_ARROW_TYPE


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
