"""A version's folder is what is served: `SentenceTransformer(folder)` gives our vectors, and the index stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from benchmarks import families
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.registry import Registry
from flywheel.settings.load import Trainer
from flywheel.store.store import Store

TEXTS = ["copy a list", "how to sort " + "many words about sorting " * 100]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return families.make("E5's prompts, 64 tokens", tmp_path_factory.mktemp("registry") / "model")


def _registry(folder: Path, store: Store, model: Path, **settings: object) -> Registry:
    (folder / "models").mkdir()
    told = Trainer.model_validate({"base_model": str(model), "device": "cpu", "bf16": "off", **settings})
    return Registry(folder / "models", store.models, told)


def _same_as_the_library(registry: Registry, version: str) -> None:
    library = SentenceTransformer(str(registry.path(version)), device="cpu", local_files_only=True)
    expected = library.encode_document(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(registry.encoder(version).encode_documents(TEXTS), expected, atol=1e-5)


def test_a_setting_that_allows_fewer_tokens_stands_in_the_folder(tmp_path: Path, model: Path) -> None:
    """Whoever loads the folder reads as many tokens as we do."""
    with Store.open(tmp_path / "flywheel.duckdb") as store:
        registry = _registry(tmp_path, store, model, max_seq_length=16)
        assert registry.ensure_base(0).index_id == registry.encoder("base").index_id
        assert registry.encoder("base").max_seq_length == 16
        _same_as_the_library(registry, "base")


def test_a_home_of_an_earlier_release_keeps_its_index(tmp_path: Path, model: Path) -> None:
    """Its base was cut to 256 tokens and had `passage` before documents: the folder is told so, once."""
    earlier = Encoder.load(model, device="cpu", bf16="off")
    earlier.model.prompts["document"] = "passage: "
    earlier.model.max_seq_length = 256
    with Store.open(tmp_path / "flywheel.duckdb") as store:
        registry = _registry(tmp_path, store, model)
        shutil.copytree(model, registry.path("base"))
        manifest = {
            "version": "base",
            "tier": "base",
            "index_id": earlier.index_id,
            "created_at": "2026-01-01T00:00:00Z",
        }
        (registry.path("base") / "flywheel.json").write_text(json.dumps(manifest))
        assert registry.encoder("base").index_id == earlier.index_id
        np.testing.assert_allclose(
            registry.encoder("base").encode_documents(TEXTS), earlier.encode_documents(TEXTS), atol=1e-5
        )
        _same_as_the_library(registry, "base")
