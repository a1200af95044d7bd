"""Imported sets of judged queries, versioned by their content.

The newest import of a name is the one in force. It judges nothing itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from flywheel.events import normalise_query
from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

_CURRENT = "SELECT arg_max(version, imported_at) FROM golden_sets GROUP BY name, kind"
# a query without a relevant document in the collection scores 0 with every model
_RELEVANT = """
    SELECT judged.set_version, judged.query_id, count(*) AS judged, count(documents.doc_id) AS there
    FROM golden_judgements judged LEFT JOIN documents ON documents.doc_id = judged.doc_id AND NOT documents.deleted
    WHERE judged.grade > 0 GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class JudgedQueries:
    """A set: `judgements[i]` maps doc_id to grade for `queries[i]`; `kind` is golden or anchor."""

    name: str
    version: str
    kind: str
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    judgements: tuple[Mapping[str, float], ...]

    def only(self, query_ids: Set[str]) -> JudgedQueries:
        """The set with these queries alone."""
        rows = [row for row, query_id in enumerate(self.query_ids) if query_id in query_ids]
        return replace(
            self,
            query_ids=tuple(self.query_ids[row] for row in rows),
            queries=tuple(self.queries[row] for row in rows),
            judgements=tuple(self.judgements[row] for row in rows),
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a collection has of a set's relevant documents. `decidable`: the queries of which it has at least one."""

    queries: int
    decidable: frozenset[str]
    documents: int
    documents_there: int

    def problem(self) -> str | None:
        """Why some queries can decide nothing, and what to do; None where all can."""
        if len(self.decidable) == self.queries:
            return None
        if not self.documents_there:
            which = f"none of the {self.documents} relevant documents is in the collection"
        else:
            undecided = self.queries - len(self.decidable)
            which = f"{undecided} of {self.queries} queries have no relevant document in the collection"
        return f"{which}, so that every model scores 0 there: import the documents, or judge by their doc_id as it is"


class Golden:
    """Reads and writes of `golden_sets`, `golden_queries` and `golden_judgements`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        kind: str,
        name: str,
        queries: Mapping[str, str],
        judgements: Sequence[tuple[str, str, float]],
        now_ms: int,
        *,
        source: str | None = None,
    ) -> str:
        """Import a set and return its version. The same content again becomes the newest, and is not stored twice.

        Args:
            kind: golden or anchor.
            queries: query_id -> text.
            judgements: (query_id, doc_id, grade). Those of unknown queries are left out.
        """
        if kind not in {"golden", "anchor"}:
            raise ValueError(f"a judged set is golden or anchor, not {kind}")
        rows = sorted({(query, doc): grade for query, doc, grade in judgements if query in queries}.items())
        version = _version(kind, name, queries, rows)
        row = [version, name, kind, moment(now_ms), len(queries), len(rows), source]
        with self._database.write() as con:
            imported = con.execute("SELECT 1 FROM golden_sets WHERE version = ?", [version]).fetchall()
            if imported:
                con.execute("UPDATE golden_sets SET imported_at = ? WHERE version = ?", [moment(now_ms), version])
                return version
            con.execute("INSERT INTO golden_sets VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for target, table in (
                ("golden_queries", _queries(version, queries)),
                ("golden_judgements", _grades(version, rows)),
            ):
                con.register("incoming", table)
                con.execute(f"INSERT INTO {target} SELECT * FROM incoming")  # noqa: S608 - one of the two above
                con.unregister("incoming")
        return version

    def current(self, kind: str | None = None) -> list[JudgedQueries]:
        """The sets in force, by name, of one kind or of both."""
        with self._database.read() as con:
            sets = con.execute(
                f"SELECT name, version, kind FROM golden_sets WHERE version IN ({_CURRENT}) "  # noqa: S608 - constant
                "AND ($1::VARCHAR IS NULL OR kind = $1) ORDER BY kind, name",
                [kind],
            ).fetchall()
            queries = _by_version(con.execute("SELECT set_version, query_id, text FROM golden_queries").fetchall())
            grades = _by_version(
                con.execute("SELECT set_version, query_id, doc_id, grade FROM golden_judgements").fetchall()
            )
        return [_judged((name, version, kind), queries[version], grades[version]) for name, version, kind in sets]

    def coverage(self) -> dict[str, Coverage]:
        """By version of the sets in force: which queries the collection, as it is now, can decide."""
        with self._database.read() as con:
            sizes = con.execute(
                f"SELECT version, query_count FROM golden_sets WHERE version IN ({_CURRENT})"  # noqa: S608 - constant
            ).fetchall()
            relevant = _by_version(con.execute(_RELEVANT).fetchall())
        return {
            version: Coverage(
                queries,
                frozenset(query_id for query_id, _, there in relevant[version] if there),
                sum(judged for _, judged, _ in relevant[version]),
                sum(there for _, _, there in relevant[version]),
            )
            for version, queries in sizes
        }

    def problems(self) -> list[str]:
        """What the sets in force cannot decide, each with what to do."""
        coverage = self.coverage()
        found = ((judged, coverage[judged.version].problem()) for judged in self.current())
        return [f"{judged.kind} set {judged.name}: {problem}" for judged, problem in found if problem]

    def query_keys(self) -> set[str]:
        """Normalised texts of every query ever imported, in force or not. None may enter training."""
        with self._database.read() as con:
            return {key for (key,) in con.execute("SELECT DISTINCT query_key FROM golden_queries").fetchall()}


def _judged(identity: tuple[str, str, str], queries: list[Any], grades: list[Any]) -> JudgedQueries:
    by_query: dict[str, dict[str, float]] = defaultdict(dict)
    for query_id, doc_id, grade in grades:
        by_query[query_id][doc_id] = grade
    queries = sorted(queries)
    return JudgedQueries(
        *identity,
        tuple(query_id for query_id, _ in queries),
        tuple(text for _, text in queries),
        tuple(by_query.get(query_id, {}) for query_id, _ in queries),
    )


def _by_version(found: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    parts: dict[str, list[Any]] = defaultdict(list)
    for version, *rest in found:
        parts[version].append(tuple(rest))
    return parts


def _version(kind: str, name: str, queries: Mapping[str, str], rows: list[tuple[tuple[str, str], float]]) -> str:
    # sorted, so that the order of the file does not make another version
    content = json.dumps([kind, name, sorted(queries.items()), rows])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _queries(version: str, queries: Mapping[str, str]) -> pa.Table:
    texts = list(queries.values())
    columns = [[version] * len(texts), list(queries), texts, [normalise_query(text) for text in texts]]
    return pa.table([pa.array(column, pa.string()) for column in columns], ["set_version", "query_id", "text", "key"])


def _grades(version: str, rows: list[tuple[tuple[str, str], float]]) -> pa.Table:
    columns = [[version] * len(rows), [query for (query, _), _ in rows], [doc for (_, doc), _ in rows]]
    arrays = [pa.array(column, pa.string()) for column in columns]
    arrays.append(pa.array([float(grade) for _, grade in rows], pa.float64()))
    return pa.table(arrays, ["set_version", "query_id", "doc_id", "grade"])
