"""The default tier: train the query side against frozen document vectors, so that the index stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from flywheel.retrieval.encoder import pick_device, prompt_of, route, uses_bf16
from trainer.data import examples as pairs
from trainer.data.dataset import Snapshot
from trainer.data.recipe import Recipe
from trainer.fitting import fit, modeldir
from trainer.fitting.lora import RATE as LORA_RATE
from trainer.fitting.lora import LoraTower
from trainer.fitting.objective import Objective
from trainer.fitting.objective import metrics as metrics_of
from trainer.fitting.tower import tower_of
from trainer.process.run import Run

EVALUATE_EVERY = 10


def train(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    """Train, merge, save the version at `run.out`; returns its metrics.

    Raises:
        ValueError: nothing to learn from, or document vectors that do not fit the model.
        OverBudget: not enough memory allowed.
    """
    recipe = snapshot.recipe
    device = pick_device(recipe.device)
    run.check_memory(planned_gb=planned_gb(snapshot))
    champion = modeldir.load(snapshot.header.champion_path, max_seq_length=recipe.max_seq_length, device=device)
    modeldir.check_space(champion, snapshot)
    plan = pairs.plan(snapshot, steps=recipe.steps, variants=recipe.variants if recipe.distil else 0)
    query = copy.deepcopy(route(champion, "query"))
    bf16 = uses_bf16(recipe.bf16, device)
    champions = {name: value.detach().clone() for name, value in _plain(query).items()}
    prompt = prompt_of(champion, "query") or ""
    dimension = champion.truncate_dim
    tower = tower_of(query, layers=recipe.layers, bf16=bf16, device=device, prompt=prompt, dimension=dimension)
    if recipe.lora_rank:
        tower = LoraTower(tower, query[0].model, rank=recipe.lora_rank, layers=recipe.layers)  # type: ignore[arg-type]
    run.report(phase="preparing", step=0, steps=recipe.steps, loss=None, dev=None)
    began = run.seconds
    tower.read(plan.examples.queries)
    home = modeldir.home_vectors(snapshot, plan.examples.asked(plan.examples.probes), device=device)
    objective = Objective(snapshot, tower, plan, home, device=device)
    prepared = run.seconds - began
    before = objective.score()
    fitted = fit.fit(objective, run, steps=recipe.steps, learning_rate=rate(recipe), evaluate_every=EVALUATE_EVERY)
    if isinstance(tower, LoraTower):
        tower.fold()
    share, after = fit.merge(objective, champions, share=recipe.merge)
    run.report(phase="saving", step=recipe.steps, steps=recipe.steps, loss=None, dev=after.means()["all"])
    metrics = metrics_of(plan, fitted, before, after) | {"merge": share}
    metrics["seconds"] = {"prepare": round(prepared, 2), "fit": round(fitted.seconds, 2)}
    modeldir.save(modeldir.join(champion, query, route(champion, "document")), run.out, snapshot, metrics=metrics)
    return metrics


def rate(recipe: Recipe) -> float:
    """The peak learning rate: low-rank factors need a higher one than whole matrices."""
    return recipe.learning_rate * (LORA_RATE if recipe.lora_rank else 1.0)


def _plain(query: Sequence[torch.nn.Module]) -> dict[str, torch.nn.Parameter]:
    return dict(getattr(query[0], "model", query[0]).named_parameters())


def planned_gb(snapshot: Snapshot) -> float:
    """The memory to expect: document vectors, the model with its gradients and moments, a step's logits."""
    recipe, documents = snapshot.recipe, snapshot.vectors
    logits = 3 * 4 * recipe.batch_size * min(16_384, len(documents))
    return float(documents.nbytes + 5 * 90e6 + logits) / 2**30
