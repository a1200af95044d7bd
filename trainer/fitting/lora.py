"""A tower that trains low-rank updates of its matrices instead of the matrices, through PEFT.

The updates are added to the weights before anything is saved, so that no version needs PEFT to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainer.fitting.tower import Layers, Tower, trainable

RATE = 10.0  # the best learning rate is about ten times that of full tuning (Schulman, LoRA Without Regret, 2025)
ALPHA = 2  # scale of the update, relative to its rank


class LoraTower:
    """Wraps a tower over `model`: the same vectors, other parameters until `fold`."""

    def __init__(self, tower: Tower, model: torch.nn.Module, *, rank: int, layers: Layers) -> None:
        """Adapt every linear map of the top `layers` blocks.

        Raises:
            ValueError: PEFT is not installed, or there is no linear map to adapt.
        """
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError as error:
            raise ValueError("trainer.lora_rank needs PEFT: pip install 'flywheel-search[lora]'") from error
        chosen = trainable(model, layers)
        linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
        names = [name for name in linear if f"{name}.weight" in chosen]
        if not names:
            raise ValueError(f"trainer.lora_rank: no linear map in the top {layers} layers of {type(model).__name__}")
        settings = LoraConfig(r=rank, lora_alpha=ALPHA * rank, lora_dropout=0.0, target_modules=names, bias="none")
        self._tower, self._model, self._layers = tower, model, layers
        self._peft: Any = get_peft_model(model, settings)
        model.eval()
        self._own = {name: value for name, value in model.named_parameters() if value.requires_grad}

    def read(self, texts: Sequence[str]) -> None:
        """See `Tower`."""
        self._tower.read(texts)

    def forward(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """See `Tower`."""
        return self._tower.forward(rows)

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The low-rank factors; after `fold` the tower's own weights."""
        return self._tower.parameters() if self._peft is None else self._own

    def fold(self) -> None:
        """Add the updates to the weights and remove the factors, so that the model has its own shape again."""
        if self._peft is not None:
            self._peft.merge_and_unload()
            self._peft = None
            trainable(self._model, self._layers)
