"""Finds hard negatives for the tier `full`: documents that look right to BM25 or to the champion, and are not.

It leaves out a candidate that scores close to the right document: it may be an answer that nobody marked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.data.examples import Examples
from trainer.data.recipe import Recipe
from trainer.fitting.ranking import nearest

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
KEPT = 8  # the hardest of each source; a step draws from them


class Negatives:
    """Hard negatives of each query: what people rejected, and a pool to draw from."""

    def __init__(self, rejected: list[Rows], pool: list[Rows]) -> None:
        self._rejected, self._pool = rejected, pool

    def __len__(self) -> int:
        return sum(len(rows) for rows in (*self._rejected, *self._pool))

    def draw(self, row: int, count: int, generator: np.random.Generator) -> Rows:
        """At most `count` documents for this query: rejected ones before the others, no document twice."""
        sure = generator.permutation(self._rejected[row])[:count]
        return np.concatenate([sure, generator.permutation(self._pool[row])[: count - len(sure)]]).astype(np.int64)


def mine(
    data: Examples, recipe: Recipe, queries: Vectors, documents: Vectors, texts: Sequence[str] | None
) -> Negatives:
    """Hard negatives for every query that trains.

    Args:
        data: the queries, their answers and rejections. recipe: sources, depth and margin.
        queries: the champion's vectors (n, d) of them; rows that do not train are not read.
        documents: its vectors of the corpus (N, d). texts: the corpus, for BM25; None leaves that source out.
    """
    trains = np.flatnonzero(np.diff(data.targets.start) > 0)
    depth = min(recipe.negative_depth, len(documents))
    sources = [nearest(queries[trains], documents, depth, device="cpu")] if "mined" in recipe.negative_sources else []
    if texts is not None:
        sources.append(by_words([data.queries[row] for row in trains], texts, depth))
    nothing = np.empty(0, np.int64)
    pool, rejected = [nothing] * len(data.queries), [nothing] * len(data.queries)
    for place, row in enumerate(trains.tolist()):
        rejected[row] = data.rejected.of(row)
        answer = float((documents[data.targets.of(row)] @ queries[row]).max())
        # a plain share of a negative score would lie above it
        limit = answer - (1 - recipe.negative_margin) * abs(answer)
        answered = np.concatenate([data.answers(row), rejected[row]])
        safe = []
        for source in sources:
            candidates = source[place][~np.isin(source[place], answered)]
            safe.append(candidates[documents[candidates] @ queries[row] < limit][:KEPT])
        pool[row] = np.unique(np.concatenate(safe)) if safe else nothing
    return Negatives(rejected, pool)


def by_words(queries: Sequence[str], texts: Sequence[str], depth: int) -> Rows:
    """The `depth` documents that BM25 ranks highest for each query, (n, depth), best first."""
    import bm25s

    settings = {"stopwords": [], "show_progress": False}  # a stop list is of one language; idf works in any
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), **settings), show_progress=False)
    asked = bm25s.tokenize(list(queries), **settings)
    ranked, _ = index.retrieve(asked, k=depth, show_progress=False, backend_selection="numpy")
    return np.asarray(ranked, np.int64)
