"""What a tower with frozen document vectors learns: rank by softmax over the whole corpus, stay put where it must."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer import examples as pairs
from trainer import fit
from trainer.dataset import Snapshot
from trainer.softmax import corpus_softmax
from trainer.tower import Tower, vectors

Rows = npt.NDArray[np.int64]


class Objective:
    """Loss and scores of a tower on a plan's queries, whose texts the tower has read; see `fit.Learner`."""

    def __init__(self, snapshot: Snapshot, tower: Tower, plan: pairs.Plan, *, device: str) -> None:
        self._recipe, self._tower, self._plan, self._device = snapshot.recipe, tower, plan, device
        self._documents = torch.from_numpy(np.array(snapshot.vectors, np.float32)).to(device)
        data = plan.examples
        # The champion's vectors of what must stay put, once: distillation then costs no second forward pass.
        kept = np.concatenate([data.replayed, data.anchors])
        self._stays = np.zeros(len(data.queries), bool)
        self._stays[kept] = self._recipe.distil > 0
        self._before = np.zeros((len(data.queries), self._documents.shape[1]), np.float32)
        if len(kept):
            self._before[kept] = vectors(tower, kept)

    def parameters(self) -> fit.Parameters:
        """See `fit.Learner`."""
        return self._tower.parameters()

    def loss(self, step: int) -> torch.Tensor:
        """Weighted softmax loss, plus distil · |f(q) − f_champion(q)|² on replayed and anchor queries."""
        rows = self._plan.steps[step]
        data, found = self._plan.examples, self._tower.forward(rows)
        weight = torch.from_numpy(data.weight[rows]).to(self._device)
        ranking = corpus_softmax(
            found,
            self._documents,
            data.targets.take(rows),
            data.masked.take(rows),
            scale=self._recipe.scale,
        )
        loss = (ranking * weight).sum() / weight.sum().clamp_min(1e-6)
        stays = self._stays[rows]
        if stays.any():
            before = torch.from_numpy(self._before[rows[stays]]).to(self._device)
            moved = (found[torch.from_numpy(stays).to(self._device)] - before).square().sum(dim=1)
            loss = loss + self._recipe.distil * moved.mean()
        return loss

    def score(self) -> fit.DevScore:
        """See `fit.Learner`."""
        data = self._plan.examples
        return fit.DevScore(self._ndcg(data.dev_seen), self._ndcg(data.dev_unseen))

    def _ndcg(self, rows: Rows) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        found = torch.from_numpy(vectors(self._tower, rows)).to(self._device)
        return pairs.dev_ndcg((found @ self._documents.T).cpu().numpy(), self._plan.examples.judged.take(rows))


def metrics(plan: pairs.Plan, fitted: fit.Fitted, before: fit.DevScore, after: fit.DevScore) -> dict[str, Any]:
    """What the report and the manifest say of a finished run."""
    data = plan.examples
    done = sum(int(np.diff(data.targets.start)[rows].sum()) for rows in plan.steps[fitted.resumed_from : fitted.steps])
    return {
        "dev": {"champion": before.means(), "candidate": after.means()},
        "dev_queries": {"seen": len(after.seen), "unseen": len(after.unseen)},
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "resumed_from": fitted.resumed_from,
        "queries": {"new": len(data.new), "replayed": len(data.replayed), "anchors": len(data.anchors)},
        "trained_documents": data.trained_documents,
        "pairs_per_second": round(done / max(fitted.seconds, 1e-9), 1),
        "history": fitted.history,
    }
