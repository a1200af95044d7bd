"""The mean of the weights of models that were trained from one champion in one tier, on different readings.

Such models lie in one basin, and their mean is often better than each (Wortsman et al., Model soups, ICML 2022).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flywheel.retrieval.encoder import pick_device
from trainer.data.dataset import Snapshot
from trainer.fitting import modeldir
from trainer.process.run import Run


def average(snapshot: Snapshot, run: Run, folders: Sequence[Path]) -> dict[str, Any]:
    """Save the mean of the models in `folders` at `run.out`; returns its metrics, which have no score of its own.

    Raises:
        ValueError: their weights do not have the same names and shapes.
    """
    recipe = snapshot.recipe
    device = pick_device(recipe.device)
    models = [modeldir.load(str(folder), max_seq_length=recipe.max_seq_length, device=device) for folder in folders]
    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("only models of one tier, made from one champion, have a mean")
    with torch.no_grad():
        for name, value in states[0].items():
            # what is the same in all keeps its bytes, and so the document side its id: even a mean of -0.0 is 0.0
            if any(not torch.equal(value, state[name]) for state in states):
                value.copy_(torch.stack([state[name] for state in states]).mean(dim=0))
    first: dict[str, Any] = json.loads((folders[0] / modeldir.MANIFEST).read_text("utf-8"))["metrics"]
    candidate = dict.fromkeys(("all", "seen", "unseen"))
    metrics = {
        **first,
        "steps": 0,
        "stopped": "the mean of models that were trained",
        "averaged": [folder.name for folder in folders],
        "dev": {**first["dev"], "candidate": candidate},
    }
    modeldir.save(models[0], run.out, snapshot, metrics=metrics)
    return metrics
