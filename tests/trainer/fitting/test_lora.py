"""Low-rank updates: the model is itself before training, folds to the vectors it trained, and loads without PEFT."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.origin import resolve_base_model
from trainer.fitting.lora import LoraTower
from trainer.fitting.tower import BertTower, LibraryTower, vectors

TEXTS = ["aspirin", "vitamin d and bone density in older adults", "a claim about trials " * 4]
ROWS = np.arange(len(TEXTS))


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    torch.set_num_threads(1)
    return SentenceTransformer(resolve_base_model("auto"), device="cpu", local_files_only=True).eval()


@pytest.mark.parametrize("kind", [BertTower, LibraryTower])
def test_updates_train_and_fold_away(model: SentenceTransformer, kind: type[BertTower] | type[LibraryTower]) -> None:
    """No change before a step, another vector after it, the same vector folded, and the old names of every weight."""
    modules = copy.deepcopy(list(model))
    plain = kind(modules, layers=2, bf16=False, device="cpu")
    plain.read(TEXTS)
    before, names = vectors(plain, ROWS), set(modules[0].model.state_dict())
    tower = LoraTower(plain, modules[0].model, rank=4, layers=2)
    assert set(tower.parameters())
    assert all("lora_" in name for name in tower.parameters())
    assert all(".layer.4." in name or ".layer.5." in name for name in tower.parameters())
    assert sum(value.numel() for value in tower.parameters().values()) < 100_000
    np.testing.assert_allclose(vectors(tower, ROWS), before, atol=1e-6)

    optimizer = torch.optim.AdamW(tower.parameters().values(), lr=1e-2)
    for _ in range(3):  # the first step moves only one factor of each product: the other starts at zero
        optimizer.zero_grad()
        tower.forward(ROWS)[:, 0].sum().backward()
        optimizer.step()
    trained = vectors(tower, ROWS)
    assert np.abs(trained - before).max() > 1e-3
    tower.fold()
    assert set(modules[0].model.state_dict()) == names
    np.testing.assert_allclose(vectors(tower, ROWS), trained, atol=1e-5)
    assert set(tower.parameters()) == set(plain.parameters())


def test_both_towers_give_the_factors_the_same_gradients(model: SentenceTransformer) -> None:
    """The fast tower's own attention differentiates the updates of query, key and value as the library does."""
    found = []
    for kind in (BertTower, LibraryTower):
        torch.manual_seed(0)
        modules = copy.deepcopy(list(model))
        tower = LoraTower(kind(modules, layers=1, bf16=False, device="cpu"), modules[0].model, rank=2, layers=1)
        tower.read(TEXTS)
        with torch.no_grad():
            for name, value in tower.parameters().items():
                if "lora_B" in name:
                    value.fill_(0.01)
        tower.forward(ROWS)[:, :5].sum().backward()
        found.append({name: value.grad for name, value in tower.parameters().items()})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-3, atol=1e-5)
