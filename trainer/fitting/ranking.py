"""The ranking loss of frozen-document tiers: whole-corpus softmax where that is affordable, else an estimate of it.

Both leave out documents that may be answers, and count documents that people rejected more than once.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from trainer.data.dataset import Snapshot
from trainer.data.examples import Examples
from trainer.data.recipe import Recipe
from trainer.data.sparse import Sparse
from trainer.fitting.softmax import CHUNK, corpus_softmax

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
HARD = 64  # documents that each query ranks highest before training: their terms are exact
SAMPLE = 8_192  # documents that stand for all others in a step


class RankingLoss(Protocol):
    """A batch's ranking loss. Development queries are ranked over `documents`, which are the snapshot's rows `pool`."""

    documents: torch.Tensor
    pool: Rows | None  # None: every row

    def loss(self, found: torch.Tensor, rows: Rows, step: int) -> torch.Tensor:
        """Cross-entropy (n,) of the queries `rows`, whose vectors (n, d) are `found`."""


def ranking_of(snapshot: Snapshot, data: Examples, queries: Vectors | None, *, device: str) -> RankingLoss:
    """The exact softmax up to `recipe.exact_documents`; beyond, the sampled one, which needs the champion's `queries`.

    Raises:
        ValueError: a corpus beyond that, and no vectors of the queries.
    """
    if len(snapshot.vectors) <= snapshot.recipe.exact_documents:
        return Exact(snapshot, data, device=device)
    if queries is None:
        raise ValueError("the sampled softmax starts from the champion's vectors of the queries")
    return Sampled(snapshot, data, queries, device=device)


class Exact:
    """Softmax over every document in every step."""

    pool: Rows | None = None

    def __init__(self, snapshot: Snapshot, data: Examples, *, device: str) -> None:
        self.documents = torch.from_numpy(np.array(snapshot.vectors, np.float32)).to(device)
        self._data, self._scale, self._boosted = data, snapshot.recipe.scale, boosted(data, snapshot.recipe)

    def loss(self, found: torch.Tensor, rows: Rows, step: int) -> torch.Tensor:  # noqa: ARG002 - the same in every step
        """See `RankingLoss`."""
        targets, masked = self._data.targets.take(rows), self._data.masked.take(rows)
        raised = self._boosted.take(rows)
        return corpus_softmax(found, self.documents, targets, masked, scale=self._scale, boosted=raised)


class Sampled:
    """Softmax with its largest terms exact and the sum of the rest estimated from a sample, new in every step.

    The estimate of the normaliser is unbiased whatever terms are fixed: each sampled one carries the logarithm of how
    many documents it stands for. That is the log Q correction of Bengio and Senécal (Adaptive importance sampling,
    2008) for a uniform Q. Mining is exact too, once a run and in chunks; for each query it costs a third of one pass of
    the exact softmax.
    """

    def __init__(self, snapshot: Snapshot, data: Examples, queries: Vectors, *, device: str) -> None:
        self._documents, self._data, self._device = snapshot.vectors, data, device
        judged = data.judged.take(np.concatenate([data.dev_seen, data.dev_unseen])).rows
        others = np.random.default_rng(snapshot.header.seed).permutation(len(snapshot.vectors))
        self.pool: Rows | None = np.union1d(judged, others[: snapshot.recipe.exact_documents])
        self.documents = self._take(self.pool)
        self._scale, self._seed = snapshot.recipe.scale, snapshot.header.seed
        self._boosted = boosted(data, snapshot.recipe)
        trains = np.flatnonzero(np.diff(data.targets.start) > 0)
        self._hard = np.full((len(data.queries), min(HARD, len(snapshot.vectors))), -1, np.int64)
        self._hard[trains] = nearest(queries[trains], snapshot.vectors, self._hard.shape[1], device=device)

    def loss(self, found: torch.Tensor, rows: Rows, step: int) -> torch.Tensor:
        """See `RankingLoss`."""
        total = len(self._documents)
        generator = np.random.default_rng((self._seed, step))
        sample = np.sort(generator.choice(total, min(SAMPLE, total), replace=False, shuffle=False))
        fixed, boost, out = self._fixed(rows)
        certain = self._scale * torch.einsum("nd,nfd->nf", found, self._take(fixed.clip(0)))
        certain = (certain + torch.from_numpy(boost).to(found)).masked_fill(self._there(fixed < 0), -torch.inf)

        excluded = _within(sample, np.concatenate([fixed, out], axis=1))
        left = total - (np.concatenate([fixed, out], axis=1) >= 0).sum(axis=1)
        stands_for = np.log(np.maximum(left, 1) / np.maximum((~excluded).sum(axis=1), 1)).astype(np.float32)
        rest = self._scale * (found @ self._take(sample).T) + torch.from_numpy(stands_for).to(found)[:, None]
        rest = rest.masked_fill(self._there(excluded), -torch.inf)

        targets = self._data.targets.take(rows)
        share = torch.from_numpy(targets.values).to(found)[:, None]
        wanted = torch.zeros_like(found).index_add_(
            0, torch.from_numpy(targets.entry).to(found.device), share * self._take(targets.rows)
        )
        normaliser = torch.logsumexp(torch.cat([certain, rest], dim=1), dim=1)
        return normaliser - self._scale * (found * wanted).sum(dim=1)

    def _fixed(self, rows: Rows) -> tuple[Rows, Vectors, Rows]:
        """For each query: documents with a term of their own, boosts, those left out; padded with -1 (boost 0)."""
        data, parts, boosts, out = self._data, [], [], []
        for row in rows.tolist():
            masked = data.masked.of(row)
            own = np.union1d(np.concatenate([data.targets.of(row), self._boosted.of(row)]), self._hard[row])
            own = own[(own >= 0) & ~np.isin(own, masked)]
            boost = np.zeros(len(own), np.float32)
            start, end = self._boosted.start[row : row + 2]
            boost[np.searchsorted(own, self._boosted.rows[start:end])] = self._boosted.values[start:end]
            parts.append(own)
            boosts.append(boost)
            out.append(masked)
        return _padded(parts, -1), _padded(boosts, 0.0), _padded(out, -1)

    def _take(self, rows: Rows) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._documents[rows])).to(self._device)

    def _there(self, mask: npt.NDArray[np.bool_]) -> torch.Tensor:
        return torch.from_numpy(mask).to(self._device)


def boosted(data: Examples, recipe: Recipe) -> Sparse:
    """What people rejected, with the logarithm of how often it counts: 1 at weight 0, `rejected_weight` at weight 1.

    To cost no more than an ordinary document, a rejected one must score ln(rejected_weight) / scale lower.
    """
    times = np.log1p((recipe.rejected_weight - 1) * data.rejected.values.astype(np.float64))
    return Sparse(data.rejected.start, data.rejected.rows, times.astype(np.float32))


def nearest(queries: Vectors, documents: Vectors, count: int, *, device: str, block: int = 1_024) -> Rows:
    """The `count` documents of largest inner product for each query, (n, count), best first; exact, in chunks."""
    result = np.empty((len(queries), count), np.int64)
    for first in range(0, len(queries), block):
        asked = torch.from_numpy(np.ascontiguousarray(queries[first : first + block])).to(device)
        score = asked.new_empty((len(asked), 0))
        place = torch.empty((len(asked), 0), dtype=torch.int64, device=device)
        for start in range(0, len(documents), 4 * CHUNK):
            chunk = torch.from_numpy(np.array(documents[start : start + 4 * CHUNK])).to(device)
            here = asked @ chunk.T
            best = here.topk(min(count, here.shape[1]), dim=1)
            score = torch.cat([score, best.values], dim=1)
            place = torch.cat([place, best.indices + start], dim=1)
            kept = score.topk(min(count, score.shape[1]), dim=1)
            score, place = kept.values, place.gather(1, kept.indices)
        result[first : first + block] = place.cpu().numpy()
    return result


def _within(sample: Rows, table: Rows) -> npt.NDArray[np.bool_]:
    """Which of the sorted `sample` (s,) are in each row of `table` (n, f): (n, s)."""
    place = np.searchsorted(sample, table).clip(max=len(sample) - 1)
    entry, column = np.nonzero(sample[place] == table)
    contained = np.zeros((len(table), len(sample)), bool)
    contained[entry, place[entry, column]] = True
    return contained


def _padded(rows: list[npt.NDArray[Any]], filler: float) -> npt.NDArray[Any]:
    kind = rows[0].dtype if rows else np.dtype(np.int64)
    result = np.full((len(rows), max((len(row) for row in rows), default=0)), filler, kind)
    for place, row in enumerate(rows):
        result[place, : len(row)] = row
    return result
