"""Documents that might answer a query besides those on its page: a row for each that any source proposes.

It judges nothing; `flywheel.exploration.plan` does. The sources are the champion's own list below the page, words
(BM25), another model, and documents that answered similar queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.exploration.plan import Floats, Ints
from flywheel.retrieval.index import Index

Vectors = npt.NDArray[np.float32]
CHAMPION_DEPTH, LEXICAL_DEPTH, RIVAL_DEPTH = 50, 30, 30
_BEYOND = 2
"""A document that a list does not name stands at this multiple of the list's depth."""
_NEIGHBOURS = 6
# cosine from which another query is similar
_SIMILAR = 0.4
# rows at a time, which bounds the memory of the copied vectors
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Lists:
    """Each ranker's lists, one list of document ids a query, best first; None: that ranker is missing.

    `answers`: query number -> document -> posterior, of the pairs that are likely relevant by clicks.
    `known`: query number -> documents that need a row in any case: shown ones and those being explored.
    """

    champion: Sequence[Sequence[str]]
    lexical: tuple[Sequence[Sequence[str]], Sequence[npt.NDArray[np.float32]]] | None
    rival: Sequence[Sequence[str]] | None
    answers: Mapping[int, Mapping[str, float]]
    known: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A row for each (query, document), ordered by query. `place`: rank on the page of `k`, 0 off it. `source`: what
    proposed the document. `features`: (rows, m), see `_FEATURES`."""

    query: Ints
    documents: tuple[str, ...]
    place: Ints
    source: tuple[str, ...]
    features: Floats


_FEATURES = ("score", "gap", "log champion rank", "log lexical rank", "lexical score", "log rival rank", "neighbour")


def candidates_of(lists: Lists, queries: Vectors, index: Index, k: int) -> Candidates:
    """One row for each document that a list, a similar query or `known` names, and that the index holds."""
    near = _similar(queries)
    query: list[int] = []
    documents: list[str] = []
    columns: list[tuple[int, float, float, float, float]] = []
    for number in range(len(lists.champion)):
        rows = _of_query(lists, number, near[number])
        for doc_id, row in rows.items():
            if doc_id in index.hashes:
                query.append(number)
                documents.append(doc_id)
                columns.append(row)
    numbers = np.array(query, np.int64)
    champion, lexical, words, rival, neighbour = np.array(columns, np.float64).reshape(-1, 5).T
    score = scores(queries, index, numbers, documents)
    top = np.full(len(lists.champion), -np.inf)
    np.maximum.at(top, numbers, score)
    features = [score, top[numbers] - score, np.log(champion), np.log(lexical), words, np.log(rival), neighbour]
    place = np.where(champion <= k, champion, 0).astype(np.int64)
    source = [_source(*row, k) for row in zip(champion, lexical, rival, neighbour, strict=True)]
    return Candidates(numbers, tuple(documents), place, tuple(source), np.column_stack(features))


def _of_query(
    lists: Lists, number: int, near: Sequence[tuple[int, float]]
) -> dict[str, tuple[int, float, float, float, float]]:
    champion = {doc_id: rank for rank, doc_id in enumerate(lists.champion[number], 1)}
    rival = {} if lists.rival is None else {doc_id: rank for rank, doc_id in enumerate(lists.rival[number], 1)}
    words: dict[str, tuple[int, float]] = {}
    if lists.lexical is not None:
        lexical_ids, scores = lists.lexical[0][number], lists.lexical[1][number]
        words = {doc_id: (rank, float(scores[rank - 1] / scores[0])) for rank, doc_id in enumerate(lexical_ids, 1)}
    neighbour: dict[str, float] = {}
    for other, similarity in near:
        for doc_id, posterior in lists.answers.get(other, {}).items():
            neighbour[doc_id] = max(neighbour.get(doc_id, 0.0), similarity * posterior)
    everybody = dict.fromkeys([*champion, *words, *rival, *neighbour, *lists.known[number]])
    beyond = (CHAMPION_DEPTH * _BEYOND, (LEXICAL_DEPTH * _BEYOND, 0.0), RIVAL_DEPTH * _BEYOND)
    return {
        doc_id: (
            champion.get(doc_id, beyond[0]),
            *words.get(doc_id, beyond[1]),
            rival.get(doc_id, beyond[2]),
            neighbour.get(doc_id, 0.0),
        )
        for doc_id in everybody
    }


def _source(champion: float, lexical: float, rival: float, neighbour: float, k: int) -> str:
    if champion <= k:
        return "page"
    if neighbour > _SIMILAR:
        return "neighbour"
    return min((champion, "champion"), (lexical, "lexical"), (rival, "rival"))[1]


def _similar(queries: Vectors) -> list[list[tuple[int, float]]]:
    """For each query the nearest other queries, with their cosines."""
    index = Index("queries", queries.shape[1])
    index.add([str(number) for number in range(len(queries))], queries)
    nearest, scores = index.search(queries, _NEIGHBOURS)
    return [
        [
            (int(name), float(score))
            for name, score in zip(names, row, strict=False)
            if int(name) != number and score > _SIMILAR
        ]
        for number, (names, row) in enumerate(zip(nearest, scores, strict=True))
    ]


def scores(queries: Vectors, index: Index, numbers: npt.NDArray[np.integer], documents: Sequence[str]) -> Floats:
    """Cosine of query `numbers[i]` and document i, which the index holds: (n,)."""
    cosines = np.empty(len(documents))
    for start in range(0, len(documents), _CHUNK):
        part = slice(start, start + _CHUNK)
        cosines[part] = np.einsum("ij,ij->i", queries[numbers[part]], index.vectors(documents[part]))
    return cosines
