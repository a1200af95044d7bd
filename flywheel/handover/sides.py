"""The two sides of a model, each as a model of its own: what a server that knows no sides can serve.

A version may encode queries and documents by different weights. Most servers take one encoder a folder, so each side
becomes one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from flywheel.retrieval.encoder import Task, length_limit, prompt_of, route, tower_id

Vectors = npt.NDArray[np.float32]
# The names of the modules and of the ways to pool that other programs know: those of sentence-transformers 2 to 5.
_MODULES = {Transformer: "Transformer", Pooling: "Pooling", Dense: "Dense", Normalize: "Normalize"}
_POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class HandoverRefused(ValueError):  # noqa: N818 - reads as what happened
    """This version cannot be written in that form; the message says why, and what can be done."""


@dataclass(frozen=True)
class OneSide:
    """One side of a model. `name`: query, document, or model where both are one. `prompt` goes before each text."""

    name: str
    task: Task
    model: SentenceTransformer
    prompt: str
    limit: int

    def features(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the model reads of these texts, prompt included: tensors (n, tokens) of int64."""
        read = self.model.preprocess(list(texts), prompt=self.prompt or None, task=self.task)
        return {name: value for name, value in read.items() if isinstance(value, torch.Tensor)}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (n, d), by the library's own `encode` in float32."""
        vectors = self.model.encode(
            list(texts), prompt=self.prompt or None, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self.model.get_embedding_dimension() or 0)


def sides_of(folder: Path) -> list[OneSide]:
    """The model's sides; one where queries and documents are encoded alike.

    Raises:
        OSError, ValueError: the folder holds no model that the library loads.
    """
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True).float().eval()
    limit = length_limit(model)
    if tower_id(model, "query") == tower_id(model, "document"):
        return [_side(model, "document", "model", limit)]
    return [_side(model, "query", "query", limit), _side(model, "document", "document", limit)]


def _side(model: SentenceTransformer, task: Task, name: str, limit: int) -> OneSide:
    prompt = prompt_of(model, task) or ""
    alone = SentenceTransformer(
        modules=route(model, task),
        device="cpu",
        prompts={"query": prompt, "document": prompt},
        similarity_fn_name="cosine",
        truncate_dim=model.truncate_dim,
    )
    return OneSide(name, task, alone.eval(), prompt, limit)


def save_side(side: OneSide, folder: Path) -> None:
    """Write one side as a SentenceTransformer folder, in the names that older versions and other programs read.

    Raises:
        HandoverRefused: a module that only the newest library knows.
    """
    side.model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    rows = json.loads((folder / "modules.json").read_text("utf-8"))
    for row, module in zip(rows, side.model, strict=True):
        row["type"] = f"sentence_transformers.models.{_known(module)}"
        if isinstance(module, Pooling):
            _rewrite_pooling(folder / row["path"] / "config.json", module)
    _write(folder / "modules.json", rows)
    if side.limit:
        _write(folder / "sentence_bert_config.json", {"max_seq_length": side.limit, "do_lower_case": False})


def check_plain(side: OneSide) -> None:
    """Raise HandoverRefused where the prompt's tokens are left out of pooling, which no other server does."""
    if side.prompt and any(isinstance(module, Pooling) and not module.include_prompt for module in side.model):
        raise HandoverRefused(
            "its pooling leaves out the prompt's tokens, which no other server does; --format sentence-transformers "
            "keeps it"
        )


def _known(module: torch.nn.Module) -> str:
    for kind, name in _MODULES.items():
        if type(module) is kind:
            return name
    raise HandoverRefused(
        f"its module {type(module).__name__} is known to the library alone; --format sentence-transformers keeps it"
    )


def _rewrite_pooling(path: Path, module: Pooling) -> None:
    """The pooling as flags, which is how every program but the newest library reads it."""
    config = module.get_config_dict()
    mode = config["pooling_mode"]
    modes: list[str] = [mode] if isinstance(mode, str) else list(mode)
    unknown = [name for name in modes if name not in _POOLINGS]
    if unknown:
        raise HandoverRefused(f"its pooling {unknown[0]} is known to the library alone; --format sentence-transformers")
    flags = {flag: name in modes for name, flag in _POOLINGS.items()}
    told = {"word_embedding_dimension": int(config["embedding_dimension"]), **flags}
    _write(path, told | {"include_prompt": bool(config.get("include_prompt", True))})


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
