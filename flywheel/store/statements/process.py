"""The process that answers one statement of somebody else, and then ends. It is run as a script and imports none of us.

It reads one request as JSON from standard input and writes the answer as an Arrow stream to standard output. A refusal
is one line of JSON on standard error. These walls stand before what is hostile, each alone stops most of it: limits of
the operating system on memory, processor time and what may be written; a database of published copies, opened to be
read; an allow-list of functions and of tables; and no file outside the published folder.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

REFUSED = 3
_ONE = "one SELECT statement at a time (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are fine)"
# small, so that a hostile row of megabytes is noticed before ten thousand of them lie in memory
_BATCH_ROWS = 1_000
_MB = 1 << 20
# what the libraries' own code takes of the memory limit: it is mapped from files, which RLIMIT_DATA does not count
_CODE_MB = 96
_SYSTEM_TABLES = frozenset({"duckdb_columns", "duckdb_tables", "tables", "columns", "schemata"})
# UHUGEINT would arrive as a signed number, TIME WITH TIME ZONE without its zone, the others as bytes
_NO_ARROW_TYPE = frozenset({"uhugeint", "time with time zone", "bit", "bignum", "interval"})
_NESTED = frozenset({"struct", "list", "array", "map", "union"})
_SHOWN = frozenset({"", '"tables"', "__show_tables_expanded"})


class _Refused(Exception):  # noqa: N818 - reads as what happened
    """The statement is not answered; the message says why, and what to do."""


def main() -> int:
    """Answer the request on standard input; returns the exit code."""
    received = sys.stdin.buffer.read()
    if not received:  # whoever started this process has ended, or needs it no longer
        return 0
    request: dict[str, Any] = json.loads(received)
    _limit(request)
    try:
        _answer(request)
    except _Refused as refusal:
        return _refuse(str(refusal))
    except MemoryError:
        return _refuse(_too_much(request))
    except OSError as error:
        return _refuse(_too_long(request) if error.errno == errno.EFBIG else _told(error, request))
    except RecursionError:
        return _refuse("the statement is nested too deeply")
    except (duckdb.Error, pa.ArrowException, ValueError) as error:
        return _refuse(_told(error, request))
    return 0


def _limit(request: dict[str, Any]) -> None:
    """Bind this process for good; the kernel keeps these limits, whatever a library does."""
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # its signal ends a process that does not handle it
    seconds = int(request["seconds"]) + 2
    memory = max(64, int(request["memory_mb"]) - _CODE_MB) * _MB
    for kind, limit in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, int(request["answer_mb"]) * _MB),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    os.nice(10)  # searches come first
    worst = Path("/proc/self/oom_score_adj")  # where memory runs out all the same, the kernel takes this process
    if worst.exists():
        worst.write_text("1000", "ascii")


def _answer(request: dict[str, Any]) -> None:
    con = duckdb.connect(
        request["database"],
        read_only=True,
        config={
            "threads": 1,
            "memory_limit": f"{max(32, int(request['memory_mb'] - _CODE_MB) * 5 // 10)}MB",
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allow_persistent_secrets": False,
            "python_enable_replacements": False,
        },
    )
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET allowed_directories = ?", [[request["folder"]]])
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    statement = _only_select(con, request["statement"])
    relation = con.sql(statement)
    if relation is None:
        raise _Refused(f"no result; {_ONE}")
    reader = _carried(relation).to_arrow_reader(_BATCH_ROWS)
    rows = size = 0
    with pa.ipc.new_stream(pa.PythonFile(sys.stdout.buffer, mode="w"), reader.schema) as sink:
        for batch in reader:
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if size > int(request["answer_mb"]) * _MB * 9 // 10:
                raise _Refused(_too_long(request))
            if rows > request["max_rows"]:
                raise _Refused(
                    f"more than {request['max_rows']} rows; add a LIMIT, aggregate, raise limits.result_rows, or read "
                    "the published analytics/analytics.duckdb, which has no limit"
                )
            sink.write_batch(batch)


def _carried(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
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


def _only_select(con: duckdb.DuckDBPyConnection, statement: str) -> str:
    statements = con.extract_statements(statement)
    if len(statements) != 1:
        raise _Refused(f"{len(statements)} statements; {_ONE}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise _Refused(f"{statements[0].type.name} is refused; {_ONE}")
    tree = json.loads(con.execute("SELECT json_serialize_sql(?)", [statements[0].query]).fetchall()[0][0])
    if tree["error"]:
        raise _Refused(f"{tree['error_message']}; {_ONE}")
    _check_functions(con, tree)
    _check_tables(con, tree)
    return statements[0].query


def _check_functions(con: duckdb.DuckDBPyConnection, tree: object) -> None:
    listed = Path(__file__).with_name("functions.txt").read_text("utf-8").split("\n")
    ours = con.execute("SELECT function_name FROM duckdb_functions() WHERE NOT internal").fetchall()
    allowed = {name.lower() for name in listed} | {name.lower() for (name,) in ours}
    unknown = sorted({name.lower() for name in _values(tree, "function_name")} - allowed)
    if unknown:
        raise _Refused(
            f"{', '.join(unknown)} is refused: only functions that compute with the data are allowed, none that reads "
            "a file or shows the machinery"
        )


def _check_tables(con: duckdb.DuckDBPyConnection, tree: object) -> None:
    """Tables, views and WITH names alone: a file's name in a table's place would be read as that file."""
    published = con.execute(
        "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    allowed = {str(name).lower() for (name,) in published} | _SYSTEM_TABLES
    allowed |= {str(entry["key"]).lower() for ctes in _values(tree, "cte_map") for entry in ctes.get("map", ())}
    for node in _nodes(tree):
        name = str(node.get("table_name", "")).lower()
        refused = name not in allowed | _SHOWN if node.get("type") == "SHOW_REF" else name not in allowed
        if node.get("type") in ("BASE_TABLE", "SHOW_REF") and refused:
            raise _Refused(f"there is no table {name!r}; there are {', '.join(sorted(allowed - _SYSTEM_TABLES))}")


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object of a serialised statement, at any depth."""
    pending = [tree]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _values(tree: object, key: str) -> Iterator[Any]:
    return (node[key] for node in _nodes(tree) if node.get(key))


def _too_much(request: dict[str, Any]) -> str:
    return f"it needs more than {request['memory_mb']} MB; narrow it, or raise limits.sql_memory_mb"


def _too_long(request: dict[str, Any]) -> str:
    return f"more than {request['answer_mb']} MB; ask for fewer columns or rows, or raise limits.result_mb"


def _told(error: Exception, request: dict[str, Any]) -> str:
    """DuckDB's own words, on one line, without the place of the folder."""
    text = " ".join(str(error).split("\n\n")[0].split("\n"))[:500]
    if isinstance(error, duckdb.OutOfMemoryException) or "bad_alloc" in text or "allocat" in text.lower():
        return _too_much(request)
    if "File too large" in text:
        return _too_long(request)
    return text.replace(f"{request['folder']}/", "").replace(request["folder"], "analytics")


def _refuse(reason: str) -> int:
    sys.stderr.write(json.dumps({"refused": reason}) + "\n")
    sys.stderr.flush()
    return REFUSED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # at once: nothing here needs a tidy end, and unwinding a spent process may not succeed
