"""The default tier: train the query side against frozen document vectors, so that the index stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flywheel.encoder import has_bf16, pick_device, prompt_of, route
from trainer import examples as pairs
from trainer import fit, modeldir, replay
from trainer.dataset import Snapshot
from trainer.run import Run
from trainer.softmax import corpus_softmax
from trainer.tower import Tower, tower_of, vectors

Rows = npt.NDArray[np.int64]


class QueryTower:
    """Loss and scores of a query tower on a snapshot; see `fit.Learner`."""

    def __init__(self, snapshot: Snapshot, tower: Tower, data: pairs.Examples, *, device: str) -> None:
        self._recipe, self._tower, self._data = snapshot.recipe, tower, data
        self._documents = torch.from_numpy(np.array(snapshot.vectors, np.float32)).to(device)
        self._device = device
        self._steps = replay.schedule(
            data.new,
            data.replayed,
            steps=self._recipe.steps,
            batch_size=self._recipe.batch_size,
            share=self._recipe.replay_share,
            seed=snapshot.header.seed,
        )
        # The champion's vectors of replayed queries, once: distillation then costs no second forward pass.
        self._old = np.zeros(len(data.queries), bool)
        self._old[data.replayed] = True
        self._champion = np.zeros((len(data.queries), self._documents.shape[1]), np.float32)
        if len(data.replayed) and self._recipe.distil:
            self._champion[data.replayed] = vectors(tower, data.replayed)

    def parameters(self) -> fit.Parameters:
        """See `fit.Learner`."""
        return self._tower.parameters()

    def loss(self, step: int) -> torch.Tensor:
        """Weighted softmax loss over new and replayed queries, plus distillation on the replayed ones."""
        rows = self._steps[step]
        found = self._tower.forward(rows)
        weight = torch.from_numpy(self._data.weight[rows]).to(self._device)
        targets, masked = self._data.targets.take(rows), self._data.masked.take(rows)
        ranking = corpus_softmax(found, self._documents, targets, masked, scale=self._recipe.scale)
        loss = (ranking * weight).sum() / weight.sum()
        old = self._old[rows]
        if self._recipe.distil and old.any():
            before = torch.from_numpy(self._champion[rows[old]]).to(self._device)
            moved = (found[torch.from_numpy(old).to(self._device)] - before).square().sum(dim=1)
            loss = loss + self._recipe.distil * moved.mean()
        return loss

    def score(self) -> fit.DevScore:
        """See `fit.Learner`."""
        return fit.DevScore(self._ndcg(self._data.dev_seen), self._ndcg(self._data.dev_unseen))

    def _ndcg(self, rows: Rows) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        found = torch.from_numpy(vectors(self._tower, rows)).to(self._device)
        return pairs.dev_ndcg((found @ self._documents.T).cpu().numpy(), self._data.judged.take(rows))


def train(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """Train, merge, save the version at `run.out`; returns its metrics.

    Raises:
        ValueError: nothing to learn from, or document vectors that do not fit the model.
    """
    recipe, header = snapshot.recipe, snapshot.header
    device = pick_device(recipe.device)
    champion = modeldir.load(header.champion_path, max_seq_length=recipe.max_seq_length, device=device)
    if champion.get_embedding_dimension() != snapshot.vectors.shape[1]:
        raise ValueError(f"document vectors of {snapshot.vectors.shape[1]} dimensions do not fit the champion's "
                         f"{champion.get_embedding_dimension()}")  # fmt: skip
    run.check_memory(planned_gb=_planned_gb(snapshot))
    document = route(champion, "document")
    query = copy.deepcopy(route(champion, "query"))
    data = pairs.build(snapshot)
    if not len(data.new) + len(data.replayed):
        raise ValueError("every pair is held out or ambiguous: nothing to learn from; gather more feedback")
    bf16 = recipe.bf16 == "on" or (recipe.bf16 == "auto" and has_bf16(device))
    tower = tower_of(query, layers=recipe.layers, bf16=bf16, device=device)
    run.report(phase="preparing", step=0, steps=recipe.steps, loss=None, dev=None)
    prompt = prompt_of(champion, "query") or ""
    tower.read([prompt + text for text in data.queries])
    learner = QueryTower(snapshot, tower, data, device=device)
    before = learner.score()
    prepared = run.seconds
    fitted = fit.fit(learner, run, steps=recipe.steps, learning_rate=recipe.learning_rate)
    fit_seconds = run.seconds - prepared
    alpha, after = _merge(learner, header.base_path, recipe.merge, recipe.max_seq_length)
    run.report(phase="saving", step=recipe.steps, steps=recipe.steps, loss=None, dev=after.means()["all"])
    metrics = {
        "dev": {"champion": before.means(), "candidate": after.means()},
        "dev_queries": {"seen": len(after.seen), "unseen": len(after.unseen)},
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "merge": alpha,
        "queries": {"new": len(data.new), "replayed": len(data.replayed)},
        "trained_documents": data.trained_documents,
        "pairs_per_second": round(
            len(data.targets.rows) * 0 + _pairs_done(learner, data, fitted.steps) / fit_seconds, 1
        ),
        "history": fitted.history,
    }
    model = modeldir.join(champion, query, document)
    modeldir.save(model, run.out, snapshot, metrics=metrics)
    return metrics


def _merge(learner: QueryTower, base_path: str, share: float, max_seq_length: int) -> tuple[float, fit.DevScore]:
    """Mix `share` of the trained weights with the rest of the base model's, unless the held-out queries lose by it."""
    trained = learner.score()
    if share >= 1:
        return 1.0, trained
    base = route(modeldir.load(base_path, max_seq_length=max_seq_length, device="cpu"), "query")[0]
    theirs = dict(getattr(base, "model", base).named_parameters())
    parameters = learner.parameters()
    kept = {name: value.detach().clone() for name, value in parameters.items()}
    if any(name not in theirs or theirs[name].shape != value.shape for name, value in kept.items()):
        return 1.0, trained
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(share * kept[name] + (1 - share) * theirs[name].to(parameter.device))
        merged = learner.score()
        if not fit.clearly_worse(merged.all, trained.all):
            return share, merged
        for name, parameter in parameters.items():
            parameter.copy_(kept[name])
    return 1.0, trained


def _pairs_done(learner: QueryTower, data: pairs.Examples, steps: int) -> int:
    return sum(len(data.targets.take(rows).rows) for rows in learner._steps[:steps])


def _planned_gb(snapshot: Snapshot) -> float:
    """Document vectors, four copies of the tower (weights, gradients, both moments), a step's logits."""
    documents = snapshot.vectors.nbytes
    return (documents + 4 * 90e6 + 3 * 4 * snapshot.recipe.batch_size * min(16_384, len(snapshot.vectors))) / 2**30
