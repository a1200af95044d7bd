"""Both towers at once: new document vectors, so the caller re-embeds the corpus and builds a new index beside the old.

In-batch and mined negatives; a document known or suspected to answer a query is never its negative.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

from flywheel.encoder import Encoder, has_bf16, pick_device, prompt_of, route
from trainer import examples as pairs
from trainer import fit, modeldir
from trainer.dataset import ANCHORS, Snapshot
from trainer.objective import metrics as metrics_of
from trainer.run import Run
from trainer.tower import Tower, tower_of, vectors

Rows = npt.NDArray[np.int64]
LEARNING_RATE = 2e-5
BATCH = 32  # every query brings a document and a negative, of hundreds of tokens each
MINED = 100  # how deep the champion's ranking is searched for negatives
MARGIN = 0.95  # a negative scores below this share of the positive, else it may be an answer nobody marked
POOL = 500  # documents that development queries are ranked against


class BothTowers:
    """Multiple negatives ranking over a batch's documents; see `fit.Learner`."""

    def __init__(self, snapshot: Snapshot, plan: pairs.Plan, towers: tuple[Tower, Tower], negatives: Rows) -> None:
        self._plan, self._scale, self._negatives = plan, snapshot.recipe.scale, negatives
        self._query, self._document = towers
        self._generator_seed = snapshot.header.seed
        judged = plan.examples.judged.take(np.concatenate([plan.examples.dev_seen, plan.examples.dev_unseen]))
        others = np.random.default_rng(self._generator_seed).permutation(len(snapshot.doc_ids))[:POOL]
        self._pool = np.union1d(judged.rows, others)

    def parameters(self) -> fit.Parameters:
        """See `fit.Learner`; a tower that serves both sides counts once."""
        both = {f"document.{name}": value for name, value in self._document.parameters().items()}
        known = {id(value) for value in both.values()}
        queries = self._query.parameters().items()
        return both | {f"query.{name}": value for name, value in queries if id(value) not in known}

    def loss(self, step: int) -> torch.Tensor:
        """Softmax of each query over the positives and mined negatives of the whole batch."""
        rows, data = self._plan.steps[step], self._plan.examples
        generator = np.random.default_rng((self._generator_seed, step))
        positive = np.array([_draw(data, row, generator) for row in rows])
        mined = self._negatives[rows]
        documents = np.concatenate([positive, mined[mined >= 0]])
        logits = self._scale * self._query.forward(rows) @ self._document.forward(documents).T
        logits = logits.masked_fill(torch.from_numpy(_answers(data, rows, documents)).to(logits.device), -torch.inf)
        wanted = torch.arange(len(rows), device=logits.device)
        loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        weight = torch.from_numpy(data.weight[rows]).to(loss)
        return (loss * weight).sum() / weight.sum()

    def score(self) -> fit.DevScore:
        """See `fit.Learner`; against a pool of documents, because these move as well."""
        data = self._plan.examples
        documents = vectors(self._document, self._pool)
        return fit.DevScore(self._ndcg(data.dev_seen, documents), self._ndcg(data.dev_unseen, documents))

    def _ndcg(self, rows: Rows, documents: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        judged = self._plan.examples.judged.take(rows)
        judged.rows = np.searchsorted(self._pool, judged.rows)
        return pairs.dev_ndcg(vectors(self._query, rows) @ documents.T, judged)


def train(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """Train both towers and save the version at `run.out`; returns its metrics. Raises ValueError as `query_tower`."""
    recipe = snapshot.recipe
    device = pick_device(recipe.device)
    missing = sum(doc_id not in snapshot.texts for doc_id in snapshot.doc_ids)
    if missing:
        raise ValueError(f"the tier full reads documents, and {missing} have no text in the snapshot")
    champion = modeldir.load(snapshot.header.champion_path, max_seq_length=recipe.max_seq_length, device=device)
    modeldir.check_space(champion, snapshot)
    bf16 = recipe.bf16 == "on" or (recipe.bf16 == "auto" and has_bf16(device))
    run.report(phase="preparing", step=0, steps=recipe.steps, loss=None, dev=None)
    snapshot = dataclasses.replace(snapshot, anchors=ANCHORS.empty_table())  # nothing can stay put while all moves
    plan = pairs.plan(snapshot, steps=recipe.steps, batch_size=min(BATCH, recipe.batch_size))
    towers = _towers(champion, snapshot, plan, bf16=bf16, device=device)
    negatives = _mine(Encoder(champion, device=device, bf16=bf16), snapshot, plan.examples)
    learner = BothTowers(snapshot, plan, towers, negatives)
    before = learner.score()
    fitted = fit.fit(learner, run, steps=recipe.steps, learning_rate=LEARNING_RATE, evaluate_every=20)
    after = learner.score()
    metrics = metrics_of(plan, fitted, before, after) | {"merge": 1.0, "mined": int((negatives >= 0).sum())}
    modeldir.save(champion, run.out, snapshot, metrics=metrics)
    return metrics


def _towers(
    champion: SentenceTransformer, snapshot: Snapshot, plan: pairs.Plan, *, bf16: bool, device: str
) -> tuple[Tower, Tower]:
    query, document = (
        tower_of(route(champion, side), layers="all", bf16=bf16, device=device) for side in ("query", "document")
    )
    query.read([(prompt_of(champion, "query") or "") + text for text in plan.examples.queries])
    document.read([(prompt_of(champion, "document") or "") + snapshot.texts[doc_id] for doc_id in snapshot.doc_ids])
    return query, document


def _mine(encoder: Encoder, snapshot: Snapshot, data: pairs.Examples) -> Rows:
    """One negative for each query (n,), -1 where none is safe: the best-ranked that is no answer, within the margin."""
    found = np.full(len(data.queries), -1, np.int64)
    rows = np.flatnonzero(np.diff(data.targets.start) > 0)
    queries = encoder.encode_queries([data.queries[row] for row in rows])
    for row, vector in zip(rows.tolist(), queries, strict=True):
        scores = snapshot.vectors @ vector
        limit = MARGIN * scores[data.targets.of(row)].max()
        best = np.argpartition(-scores, min(MINED, len(scores) - 1))[:MINED]
        safe = best[(scores[best] < limit) & ~np.isin(best, data.answers(row))]
        if len(safe):
            found[row] = safe[np.argmax(scores[safe])]
    return found


def _draw(data: pairs.Examples, row: int, generator: np.random.Generator) -> int:
    start, end = data.targets.start[row : row + 2]
    share = data.targets.values[start:end].astype(np.float64)
    return int(generator.choice(data.targets.rows[start:end], p=share / share.sum()))


def _answers(data: pairs.Examples, rows: Rows, documents: Rows) -> npt.NDArray[np.bool_]:
    """Where (queries, documents) a column other than the query's own is, or may be, an answer too."""
    result = np.zeros((len(rows), len(documents)), bool)
    for place, row in enumerate(rows):
        result[place] = np.isin(documents, data.answers(int(row)))
        result[place, place] = False
    return result
