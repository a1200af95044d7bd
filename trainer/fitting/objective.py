"""What a tower learns against frozen document vectors: rank by softmax over the corpus, and stay put where it must."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flywheel.retrieval.encoder import uses_bf16
from trainer.data import examples as pairs
from trainer.data.dataset import Snapshot
from trainer.fitting import fit, probes
from trainer.fitting.ranking import ranking_of
from trainer.fitting.softmax import quick_products
from trainer.fitting.tower import Tower, vectors

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
DEV_BLOCK = 128  # queries whose scores over all documents are in memory together


class Objective:
    """Loss and scores of a tower on a plan's queries, whose texts the tower has read; see `fit.Learner`.

    `home`: the base model's vectors (probes, d) of the plan's probes. None: they stay where the champion has them.
    """

    def __init__(
        self, snapshot: Snapshot, tower: Tower, plan: pairs.StepPlan, home: Vectors | None, *, device: str
    ) -> None:
        self._recipe, self._tower, self._plan, self._device = snapshot.recipe, tower, plan, device
        data = plan.examples
        self._quick = uses_bf16(self._recipe.bf16, device)
        large = len(snapshot.vectors) > self._recipe.exact_documents
        with quick_products(self._quick):
            every = vectors(tower, np.arange(len(data.queries))) if large else None
            self._ranking = ranking_of(snapshot, data, every, device=device)
        self._documents = self._ranking.documents
        self._scored: tuple[tuple[tuple[int, int], ...], fit.DevScore] | None = None
        # the champion's vectors of what must stay put, computed once: distillation needs no second forward pass
        taught = probes.spread(np.concatenate([data.new, data.replayed])) if len(data.probes) else data.new[:0]
        kept = np.unique(np.concatenate([data.replayed, data.anchors, data.probes, data.variants, taught]))
        self._before = np.zeros((len(data.queries), self._documents.shape[1]), np.float32)
        if len(kept):
            self._before[kept] = vectors(tower, kept)
        if home is not None:
            self._before[data.probes] = home
        self._force = np.zeros(len(data.queries), np.float32)
        self._force[np.concatenate([data.replayed, data.anchors, data.variants])] = self._recipe.distil
        if len(data.probes):
            near = self._recipe.probe_weight
            self._force[data.probes] = probes.forces(
                self._before[data.probes],
                self._before[taught],
                snapshot.vectors,
                near=near,
                far=near * self._recipe.probe_far,
                device=device,
            )
        groups = [np.concatenate([data.replayed, data.anchors]), data.variants, data.probes]
        self._still = [np.isin(np.arange(len(data.queries)), group) & (self._force > 0) for group in groups]

    def parameters(self) -> fit.Parameters:
        """See `fit.Learner`."""
        return self._tower.parameters()

    def loss(self, step: int) -> torch.Tensor:
        """Weighted softmax loss, plus distil · |f(q) − f_champion(q)|² on replayed and anchor queries, and on variants.

        Plus probe_weight · |f(p) − f_base(p)|² on probes, probe_far times that where no taught query comes near. So
        what nobody asked about yet does not drift either. Source: Li and Hoiem, Learning without Forgetting, 2016,
        here with the indexed documents in place of the new task's inputs.
        """
        rows = self._plan.steps[step]
        data, embedded = self._plan.examples, self._tower.forward(rows)
        learns = data.weight[rows] > 0
        weight = torch.from_numpy(data.weight[rows[learns]]).to(self._device)
        with quick_products(self._quick):
            ranking = self._ranking.loss(embedded[self._there(learns)], rows[learns], step)
        # a few queries that repeat in every step weigh less against staying put than a full batch does
        full = min(1.0, float(learns.sum()) / self._recipe.batch_size)
        loss = full * (ranking * weight).sum() / weight.sum().clamp_min(1e-6)
        for group in self._still:
            still = group[rows]
            places = rows[still]
            if len(places):
                before, force = (torch.from_numpy(of[places]).to(self._device) for of in (self._before, self._force))
                loss = loss + (force * (embedded[self._there(still)] - before).square().sum(dim=1)).mean()
        return loss

    def _there(self, mask: npt.NDArray[np.bool_]) -> torch.Tensor:
        return torch.from_numpy(mask).to(self._device)

    def score(self) -> fit.DevScore:
        """See `fit.Learner`. It keeps the last score: the start and the end of a run ask twice for the same weights."""
        state = fit.state_of(self.parameters())
        if self._scored is None or self._scored[0] != state:
            data = self._plan.examples
            self._scored = state, fit.DevScore(self._ndcg(data.dev_seen), self._ndcg(data.dev_unseen))
        return self._scored[1]

    def _ndcg(self, rows: Rows) -> npt.NDArray[np.float64]:
        if not len(rows):
            return np.empty(0)
        judged = self._plan.examples.judged.take(rows)
        if self._ranking.pool is not None:
            judged.rows = np.searchsorted(self._ranking.pool, judged.rows)
        embedded = torch.from_numpy(vectors(self._tower, rows)).to(self._device)
        depth = min(10, len(self._documents))
        with quick_products(self._quick):
            best = [(block @ self._documents.T).topk(depth).indices for block in torch.split(embedded, DEV_BLOCK)]
        return pairs.ranked_ndcg(torch.cat(best).cpu().numpy(), judged)


def metrics(plan: pairs.StepPlan, fitted: fit.Fitted, before: fit.DevScore, after: fit.DevScore) -> dict[str, Any]:
    """What the report and the manifest say about a finished run."""
    data = plan.examples
    done = sum(int(np.diff(data.targets.start)[rows].sum()) for rows in plan.steps[fitted.resumed_from : fitted.steps])
    return {
        "dev": {"champion": before.means(), "candidate": after.means()},
        "dev_queries": {"seen": len(after.seen), "unseen": len(after.unseen)},
        "steps": fitted.steps,
        "stopped": fitted.stopped,
        "learning_rate": fitted.learning_rate,
        "tried": fitted.tried,
        "resumed_from": fitted.resumed_from,
        "queries": {
            "new": len(data.new),
            "replayed": len(data.replayed),
            "anchors": len(data.anchors),
            "probes": len(data.probes),
            "variants": len(data.variants),
        },
        "trained_documents": data.trained_documents,
        "pairs_per_second": round(done / max(fitted.seconds, 1e-9), 1),
        "history": fitted.history,
    }
