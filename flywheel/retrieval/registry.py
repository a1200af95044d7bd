"""Model versions: their directories on disk, their rows in the store, and the encoders loaded from them.

It never changes which version is the champion; only a decision does.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import ModelRefused, examine, resolve_base_model
from flywheel.settings.home import write_atomically
from flywheel.settings.load import Trainer
from flywheel.store.training.models import Model, Models

BASE = "base"
MANIFEST = "flywheel.json"
_LOADED = 4


class IncompleteModel(ValueError):  # noqa: N818 - reads as what happened
    """A model directory without a readable manifest: unfinished, or no version of ours."""


class Registry:
    """The versions under `folder`. The last four encoders stay loaded; safe to share between threads."""

    def __init__(self, folder: Path, models: Models, settings: Trainer) -> None:
        self._folder, self._models, self._settings = folder, models, settings
        self._encoders: OrderedDict[str, Encoder] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, version: str) -> Path:
        """The directory of a version, whether it exists yet or not."""
        return self._folder / version

    def ensure_base(self, now_ms: int) -> Model:
        """The version `base`: a copy of the configured base model, made and registered at the first call.

        Raises:
            ModelMissing: there is no base model, or one that would not be served as its library serves it; the message
                says which, why, and what to set.
        """
        base = self._models.get(BASE)
        if base is not None:
            return base
        target = self.path(BASE)
        if not (target / MANIFEST).exists():
            source = Path(resolve_base_model(self._settings.base_model, download=True))
            examine(source)
            self._copy_base(source, target, now_ms)
        return self.adopt(BASE)

    def adopt(self, version: str) -> Model:
        """Register the complete directory of a version; harmless if it is registered already.

        Raises:
            IncompleteModel: the directory has no manifest, or one of another version.
        """
        manifest = read_manifest(self.path(version))
        if manifest.get("version") != version:
            raise IncompleteModel(f"{self.path(version)} says that it is version {manifest.get('version')}")
        created = datetime.fromisoformat(str(manifest["created_at"]))
        model = Model(
            version=version,
            tier=str(manifest["tier"]),
            path=str(self.path(version).resolve()),
            index_id=str(manifest["index_id"]),
            created_at_ms=int(created.timestamp() * 1000),
            parent=manifest.get("parent"),
            run_id=manifest.get("run_id"),
            metrics=manifest.get("metrics", {}),
        )
        self._models.add(model)
        return self._models.get(version) or model

    def encoder(self, version: str) -> Encoder:
        """The encoder of a version; at most four stay in memory.

        Raises:
            ModelMissing: its directory is gone or holds no model.
        """
        with self._lock:
            if version not in self._encoders:  # loaded under the lock, so that no version is loaded twice
                self._encoders[version] = self._load(self.path(version))
                while len(self._encoders) > _LOADED:
                    self._encoders.popitem(last=False)
            self._encoders.move_to_end(version)
            return self._encoders[version]

    def open(self, folder: Path) -> Encoder:
        """The encoder of a model that is no version yet; it is loaded anew with each call.

        Raises:
            ModelMissing: the folder holds no model.
        """
        return self._load_as_it_is(folder)

    def next_version(self) -> str:
        """A name that no version and no directory has: v1, v2, …"""
        taken = {model.version for model in self._models.all()} | {path.name for path in self._folder.iterdir()}
        number = 1
        while f"v{number}" in taken:
            number += 1
        return f"v{number}"

    def sweep(self) -> list[str]:
        """Remove unfinished directories that no run will go on with; returns their names."""
        swept = []
        for path in self._folder.iterdir():
            if path.name.endswith(".tmp"):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
                swept.append(path.name)
        return swept

    def _load(self, path: Path) -> Encoder:
        encoder, index_id = self._load_as_it_is(path), read_manifest(path).get("index_id")
        if encoder.index_id != index_id:
            told = encoder.as_before(str(index_id), self._settings.max_seq_length)
            if told is not None:
                tell(path, told)
                encoder = self._load_as_it_is(path)
        return encoder

    def _load_as_it_is(self, path: Path) -> Encoder:
        return Encoder.load(
            path, device=self._settings.device, bf16=self._settings.bf16, max_seq_length=self._settings.max_seq_length
        )

    def _copy_base(self, source: Path, target: Path, now_ms: int) -> None:
        draft = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        encoder = self._checked(source)
        if any(source.rglob("pytorch_model*.bin")):
            encoder.model.save_pretrained(str(draft), create_model_card=False)  # as safetensors
        else:
            shutil.copytree(source, draft)
        if encoder.max_seq_length:
            tell(draft, {"max_seq_length": encoder.max_seq_length})  # a setting may allow less than the folder
        manifest: dict[str, Any] = {
            "version": BASE,
            "parent": None,
            "tier": "base",
            "index_id": encoder.index_id,
            "document_tower_id": encoder.document_tower_id,
            "base_model": str(source),
            "created_at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds"),
            "run_id": None,
            "snapshot_id": None,
            "seed": 0,
            "metrics": {},
            "trained_documents": 0,
        }
        write_atomically(draft / MANIFEST, json.dumps(manifest, indent=2).encode())
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)

    def _checked(self, source: Path) -> Encoder:
        """The encoder of a base model, once it gives the library's own vectors.

        Raises:
            ModelRefused: it does not, or it cannot be loaded.
        """
        try:
            encoder = self._load_as_it_is(source)
            encoder.check()
        except Exception as error:  # whatever a library of models raises, people read one reason
            cause = str(error) if isinstance(error, ModelRefused) else f"{type(error).__name__}: {str(error)[:300]}"
            raise ModelRefused(
                f"{source} cannot be the base model: {cause}; set trainer.base_model to another"
            ) from error
        return encoder


def tell(folder: Path, told: Mapping[str, Any]) -> None:
    """Write into a version's folder what `SentenceTransformer(folder)` should do as we do: how many tokens of a text
    are read (`max_seq_length`), and what is put before documents (`prompt`)."""
    if told.get("max_seq_length"):
        for path in folder.rglob("sentence_bert_config.json"):
            _rewrite(path, {"max_seq_length": told["max_seq_length"]})
    if told.get("prompt") is not None:
        path = folder / "config_sentence_transformers.json"
        prompts = json.loads(path.read_text("utf-8")).get("prompts") or {}
        _rewrite(path, {"prompts": {**prompts, "document": told["prompt"]}})


def _rewrite(path: Path, changed: Mapping[str, Any]) -> None:
    values = json.loads(path.read_text("utf-8"))
    if {name: values.get(name) for name in changed} != dict(changed):
        write_atomically(path, json.dumps({**values, **changed}, indent=2).encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of `flywheel.json` in a model directory; the file means that the directory is complete.

    Raises:
        IncompleteModel: no manifest, or one that is not a JSON object.
    """
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise IncompleteModel(f"{folder} holds no complete model version: {error}") from error
    if not isinstance(manifest, dict):
        raise IncompleteModel(f"{folder / MANIFEST} is no JSON object")
    return manifest
