"""Finds documents that share a query's rare words: BM25 over a collection that fits in memory.

It is a second opinion beside the embedding models, which miss other documents than it does. It learns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import sparse

_WORD = re.compile(r"\w+")
_AT_ONCE = 64  # queries: bounds the memory of a product
_EVERYWHERE = 0.25
"""A word in more than this share of the documents tells none of them apart, and costs the most to add up."""
_PAIRS_AT_ONCE = 262_144  # bounds the memory of looking them up


class Lexical:
    """Robertson & Zaragoza (2009), "The probabilistic relevance framework: BM25 and beyond", eq. 3.15, with
    idf = ln(1 + (N - df + 0.5) / (df + 0.5)), which is never negative. Words are runs of letters and digits, folded.
    """

    def __init__(self, doc_ids: Sequence[str], texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        self._doc_ids = list(doc_ids)
        self._words: dict[str, int] = {}
        rows, columns = [], []
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.casefold()):
                rows.append(row)
                columns.append(self._words.setdefault(word, len(self._words)))
        shape = (len(self._doc_ids), len(self._words))
        counts = sparse.coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape).tocsr()
        counts.sum_duplicates()
        length = counts.sum(axis=1)
        seen = np.bincount(counts.indices, minlength=shape[1])
        idf = np.log1p((shape[0] - seen + 0.5) / (seen + 0.5)) * (seen <= max(10, _EVERYWHERE * shape[0]))
        weighted = counts.tocoo()
        frequency = weighted.data
        typical = max(1e-9, float(length.sum()) / max(1, len(self._doc_ids)))
        saturation = k1 * (1 - b + b * length[weighted.coords[0]] / typical)
        weights = frequency * (k1 + 1) / (frequency + saturation) * idf[weighted.coords[1]]
        self._weights = sparse.coo_array((weights.astype(np.float32), weighted.coords), shape=shape).T.tocsr()

    def search(self, queries: Sequence[str], k: int) -> tuple[list[list[str]], list[npt.NDArray[np.float32]]]:
        """At most `k` documents for each query that share a word with it, best first, and their scores."""
        documents: list[list[str]] = []
        scores: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(queries), _AT_ONCE):
            matches = self._asked(queries[start : start + _AT_ONCE]) @ self._weights
            for row in range(matches.shape[0]):
                part = slice(matches.indptr[row], matches.indptr[row + 1])
                values, places = matches.data[part], matches.indices[part]
                # equal scores in the order of the documents, so that the same collection gives the same answer
                best = np.lexsort((places, -values))[:k]
                best = best[values[best] > 0]
                documents.append([self._doc_ids[place] for place in places[best]])
                scores.append(values[best])
        return documents, scores

    def scores(
        self, queries: Sequence[str], numbers: npt.NDArray[np.integer], documents: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Score (n,) of query `numbers[i]` and document i; 0 if they share no word or the document is unknown."""
        rows = {doc_id: row for row, doc_id in enumerate(self._doc_ids)}
        places = np.array([rows.get(doc_id, -1) for doc_id in documents], np.int64)
        asked, totals = self._asked(queries), np.zeros(len(documents))
        for start in range(0, len(documents), _PAIRS_AT_ONCE):
            here = start + np.flatnonzero(places[start : start + _PAIRS_AT_ONCE] >= 0)
            words = asked[numbers[here]]
            pair = np.repeat(here, np.diff(words.indptr))
            weights = self._looked_up(words.indices, places[pair])
            part = totals[start : start + _PAIRS_AT_ONCE]
            part += np.bincount(pair - start, weights, len(part))
        return totals

    def _looked_up(self, words: npt.NDArray[np.integer], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The weight (n,) of each word in each row, by bisection in the word's own rows."""
        weights, order = np.zeros(len(words)), np.argsort(words, kind="stable")
        bounds = np.append(np.flatnonzero(np.diff(words[order], prepend=-1)), len(order))
        for first, end in pairwise(bounds.tolist()):
            of, word = order[first:end], words[order[first]]
            part = slice(self._weights.indptr[word], self._weights.indptr[word + 1])
            holders = self._weights.indices[part]
            at = np.minimum(np.searchsorted(holders, rows[of]), len(holders) - 1)
            weights[of] = np.where(holders[at] == rows[of], self._weights.data[part][at], 0.0)
        return weights

    def _asked(self, queries: Sequence[str]) -> sparse.csr_array:
        columns = [sorted({self._words[w] for w in _WORD.findall(q.casefold()) if w in self._words}) for q in queries]
        starts = np.concatenate([[0], np.cumsum([len(words) for words in columns])]).astype(np.int64)
        indices = np.array([word for words in columns for word in words], np.int64)
        ones = np.ones(len(indices), np.float32)
        return sparse.csr_array((ones, indices, starts), shape=(len(queries), len(self._words)))
