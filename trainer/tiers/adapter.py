"""The cheapest tier: a residual linear map on the champion's query vectors, trained in seconds. It changes no encoder.

It also serves embeddings of models that cannot be trained here: it needs vectors, not weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from flywheel.retrieval.encoder import Encoder, pick_device, route, uses_bf16
from trainer.data import examples as pairs
from trainer.data.dataset import Snapshot
from trainer.fitting import fit, modeldir
from trainer.fitting.objective import Objective
from trainer.fitting.objective import metrics as metrics_of
from trainer.process.run import Run

Rows = npt.NDArray[np.int64]
LEARNING_RATE = 3e-4  # at 1e-3 a map forgets earlier domains
STEPS = 120
EVALUATE_EVERY = 40  # over a large corpus one evaluation costs as much as several steps


class ResidualMap:
    """f(q) = (q + W q) / |q + W q| over fixed vectors q; a tower that knows its texts only by number."""

    def __init__(self, vectors: npt.NDArray[np.float32], *, device: str) -> None:
        self._vectors = torch.from_numpy(vectors).to(device)
        dimension = vectors.shape[1]
        self.weight = torch.nn.Parameter(torch.zeros((dimension, dimension), device=device))

    def read(self, texts: Sequence[str]) -> None:
        """See `Tower`; does nothing, because the vectors are given."""

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `Tower`."""
        return {"weight": self.weight}

    def forward(self, rows: Rows) -> torch.Tensor:
        """See `Tower`."""
        fixed = self._vectors[torch.from_numpy(rows).to(self._vectors.device)]
        return torch.nn.functional.normalize(fixed + fixed @ self.weight.T, dim=-1)


def train(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """Train the map, merge, save the version at `run.out`; returns its metrics. Raises ValueError as `query_tower`."""
    recipe = snapshot.recipe
    device = pick_device(recipe.device)
    champion = modeldir.load(snapshot.header.champion_path, max_seq_length=recipe.max_seq_length, device=device)
    modeldir.check_space(champion, snapshot)
    plan = pairs.plan(snapshot, steps=STEPS)
    run.check_memory(planned_gb=(snapshot.vectors.nbytes + 5e5 * recipe.batch_size) / 2**30)
    run.report(phase="preparing", step=0, steps=STEPS, loss=None, dev=None)
    tower = ResidualMap(_query_vectors(champion, snapshot, plan.examples.queries, device), device=device)
    home = modeldir.home_vectors(snapshot, plan.examples.asked(plan.examples.probes), device=device)
    objective = Objective(snapshot, tower, plan, home, device=device)
    before = objective.score()
    fitted = fit.fit(objective, run, steps=STEPS, learning_rate=LEARNING_RATE, evaluate_every=EVALUATE_EVERY)
    share, after = fit.merge(objective, {"weight": torch.zeros_like(tower.weight)}, share=recipe.merge)
    document, query = route(champion, "document"), route(champion, "query")
    weight = _whole(champion, tower.weight.detach().cpu())
    model = modeldir.join(champion, [*query, *_modules(query, weight)], document)
    metrics = metrics_of(plan, fitted, before, after) | {"merge": share}
    modeldir.save(model, run.out, snapshot, metrics=metrics)
    return metrics


def _query_vectors(
    champion: SentenceTransformer, snapshot: Snapshot, queries: Sequence[str], device: str
) -> npt.NDArray[np.float32]:
    """The champion's vectors of all queries that train or are scored: those at hand, and the rest encoded now."""
    at_hand, recipe = snapshot.query_vectors, snapshot.recipe
    vectors = np.zeros((len(queries), snapshot.vectors.shape[1]), np.float32)
    missing = [row for row, text in enumerate(queries) if text not in at_hand]
    for row, text in enumerate(queries):
        if text in at_hand:
            vectors[row] = at_hand[text]
    bf16 = uses_bf16(recipe.bf16, device)
    if missing:
        encoder = Encoder(champion, device=device, bf16=bf16)
        vectors[missing] = encoder.encode_queries([queries[row] for row in missing])
    return vectors


def _whole(champion: SentenceTransformer, weight: torch.Tensor) -> torch.Tensor:
    """The map on all numbers of a vector, where a model with `truncate_dim` serves only the first: the rest stays."""
    with champion.truncate_embeddings(None):
        whole = int(champion.get_embedding_dimension() or 0)
    more = whole - len(weight)
    return torch.nn.functional.pad(weight, (0, more, 0, more))


def _modules(query: Sequence[torch.nn.Module], weight: torch.Tensor) -> list[torch.nn.Module]:
    """The modules to append to the query side: the map and a normalisation; none where an earlier map takes it up.

    Without a bias, maps compose and scalars pass through: normalize(B normalize(A q)) = normalize(B A q).
    """
    last = query[-2] if len(query) > 1 else None
    dimension = len(weight)
    if isinstance(last, Dense) and last.use_residual and isinstance(query[-1], Normalize) and not last.bias:
        with torch.no_grad():
            step = torch.eye(dimension) + weight
            earlier = torch.eye(dimension) + last.linear.weight.cpu()
            last.linear.weight.copy_(step @ earlier - torch.eye(dimension))
        return []
    dense = Dense(
        dimension, dimension, bias=False, activation_function=torch.nn.Identity(), init_weight=weight, use_residual=True
    )
    return [dense, Normalize()]
