"""Texts in, unit vectors out: one loaded model version, with its query side and its document side.

It reads model directories with the plain SentenceTransformer library, and never downloads anything.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from flywheel.retrieval.origin import ModelRefused, resolve_base_model
from flywheel.settings.sections import Bf16, Trainer

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]
Task = Literal["query", "document"]
_DEFAULT = Trainer()
# what a configuration says of its file and its loader
_NOT_THE_VECTORS = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})
# before the length limit and the prompts were the folder's own: what every model was cut to where no setting said
_EARLIER_LIMIT = 256
_COUNTED = 20_000  # characters of a text whose tokens are counted
_SAME = 1e-3  # how far two unit vectors may lie apart through rounding alone
_PROBES = ("a", "copy a list", "How does one sort things? " * 40, "Ünïcode – naïve café", "")


def knows(architecture: str) -> bool:
    """Whether the library of models has this `model_type`; it loads none of them to say so."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    return architecture in CONFIG_MAPPING_NAMES


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
            max_seq_length: tokens of a text that are read at most; None leaves the model's own.

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
        shorten(model, max_seq_length)
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
        """Tokens of a text that are read; 0: all."""
        return length_limit(self._model)

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

    @property
    def keeps_the_end(self) -> bool:
        """Whether a document that is too long loses its beginning, as its folder's tokenizer may say."""
        return str(getattr(self._document_tokenizer(), "truncation_side", "right")) == "left"

    def token_counts(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokens (n,) of documents if nothing were cut, with the prompt and special tokens.

        Of a text above 20,000 characters those are counted, and the rest is taken to be alike. Zeros where the model
        has no tokenizer of the usual kind.
        """
        tokenizer, prompt = self._document_tokenizer(), prompt_of(self._model, "document") or ""
        if tokenizer is None or not texts:
            return np.zeros(len(texts), np.int64)
        with self._tokenizing:
            heads = [prompt + text[:_COUNTED] for text in texts]
            found = tokenizer(heads, truncation=False, padding=False, return_attention_mask=False, verbose=False)
        counts = np.array([len(ids) for ids in found["input_ids"]], np.float64)
        return np.rint(counts * [max(1.0, len(text) / _COUNTED) for text in texts]).astype(np.int64)

    def _document_tokenizer(self) -> Any:
        found = getattr(route(self._model, "document")[0], "tokenizer", None)
        return found if callable(found) else None

    def check(self) -> None:
        """Hold some vectors of both sides against the library's own.

        Raises:
            ModelRefused: they differ, or there are none.
        """
        exact = Encoder(self._model, device=self._device, bf16=False)
        for side, ours, theirs in (
            ("query", exact.encode_queries, self._model.encode_query),
            ("document", exact.encode_documents, self._model.encode_document),
        ):
            expected = np.asarray(theirs(list(_PROBES), normalize_embeddings=True, show_progress_bar=False))
            found = ours(_PROBES)
            if found.shape != expected.shape or not np.isfinite(expected).all():
                raise ModelRefused(f"its {side} vectors are {found.shape} here and {expected.shape} by the library, "
                                   "or no finite numbers")  # fmt: skip
            away = float(np.linalg.norm(found - expected, axis=1).max())
            if away > _SAME:
                raise ModelRefused(f"its {side} vectors differ from the library's own by up to {away:.4f}")

    def as_before(self, index_id: str, most: int | None) -> dict[str, Any] | None:
        """What a version's folder has to say so that its documents keep the space `index_id`: its length limit and its
        document prompt, from the time when a setting and a rule of our own stood above the folder. None: nothing does.
        """
        model = self._model
        earlier = next((model.prompts[name] for name in ("passage", "corpus") if model.prompts.get(name)), None)
        for prompt in {prompt_of(model, "document"): 0, earlier: 0}:
            tower = tower_id(model, "document", prompt)
            for limit in (self.max_seq_length, min(most or _EARLIER_LIMIT, longest_input(model))):
                if index_id_of(tower, limit) == index_id:
                    return {"max_seq_length": limit, "prompt": prompt}
        return None

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
            out = out[..., : self.dimension].float()  # a model may say that only its first dimensions count
            vectors[rows] = torch.nn.functional.normalize(out, dim=-1).cpu().numpy()
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
    """The prompt that the library's `encode_query` or `encode_document` puts before each text; an empty one counts."""
    names = ("query",) if task == "query" else ("document", "passage", "corpus")
    name = next((name for name in names if name in model.prompts), model.default_prompt_name)
    return (model.prompts.get(name) if name is not None else None) or None


def tower_id(model: SentenceTransformer, task: Task, prompt: str | None = None) -> str:
    """Hash (16 hex digits) of one side's modules: classes, settings, weights as float32 bytes, and the prompt (its own
    if none is given).

    It leaves out the length limit, which belongs to the index (`index_id_of`) and may be changed by a setting.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(((prompt_of(model, task) if prompt is None else prompt) or "").encode())
    for module in route(model, task):
        digest.update(json.dumps([type(module).__name__, _settings(module)], sort_keys=True, default=str).encode())
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    if model.truncate_dim is not None:
        digest.update(f"first {model.truncate_dim}".encode())
    return digest.hexdigest()


def length_limit(model: SentenceTransformer) -> int:
    """Tokens of a text that the model reads; 0 where it reads all, as static embeddings do."""
    limit = model.max_seq_length
    return int(limit) if limit is not None and math.isfinite(limit) else 0


def shorten(model: SentenceTransformer, most: int | None) -> None:
    """Let the model read no more than `most` tokens of a text; what its folder says is never exceeded."""
    own = length_limit(model)
    if most is not None and own and most < own:
        model.max_seq_length = most


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
        architecture = type(getattr(module, "model", module)).__name__
        if hasattr(config, "hidden_act"):
            return {"architecture": architecture, "activation": config.hidden_act}
        told = {name: value for name, value in config.to_diff_dict().items() if name not in _NOT_THE_VECTORS}
        return {"architecture": architecture, "config": told}
    describe = getattr(module, "get_config_dict", None)
    return dict(describe()) if describe else {}


def _to_device(features: dict[str, Any], device: str) -> dict[str, Any]:
    return {key: value.to(device) if hasattr(value, "to") else value for key, value in features.items()}
