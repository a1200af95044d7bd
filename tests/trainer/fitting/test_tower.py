"""The fast tower against the library's own forward and backward pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.origin import resolve_base_model
from trainer.fitting.tower import BertTower, LibraryTower, tower_of, vectors

TEXTS = ["aspirin", "vitamin d and bone density in older adults", "", "a much longer claim about trials " * 9]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    torch.set_num_threads(1)
    return SentenceTransformer(resolve_base_model("auto"), device="cpu", local_files_only=True).eval()


@pytest.mark.parametrize(("layers", "bf16"), [(2, False), ("all", False), (2, True)])
def test_the_fast_tower_computes_the_librarys_vectors(
    model: SentenceTransformer, layers: int | str, bf16: bool
) -> None:
    """Packed tokens, own attention and cached layers change no vector beyond the number format's error."""
    tower = tower_of(list(model), layers=layers, bf16=bf16, device="cpu")  # type: ignore[arg-type]
    assert isinstance(tower, BertTower)
    tower.read(TEXTS)
    found = vectors(tower, np.array([3, 0, 1, 2]))
    expected = model.encode([TEXTS[3], *TEXTS[:3]])
    assert (found * expected).sum(axis=1).min() > (0.999 if bf16 else 0.999999)


def test_the_fast_tower_computes_the_librarys_gradients(model: SentenceTransformer) -> None:
    """One backward pass gives every trained weight the gradient that the library's own modules give it."""
    gradients = []
    for kind in (BertTower, LibraryTower):
        tower = kind(copy.deepcopy(list(model)), layers=2, bf16=False, device="cpu")
        tower.read(TEXTS)
        tower.forward(np.arange(len(TEXTS)))[:, :7].sum().backward()
        gradients.append({name: value.grad for name, value in tower.parameters().items()})
    assert len(gradients[0]) == 2 * 16
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-5)


def test_only_the_top_layers_train(model: SentenceTransformer) -> None:
    """Embeddings and lower layers neither train nor ask for gradients."""
    modules = copy.deepcopy(list(model))
    tower = tower_of(modules, layers=1, bf16=False, device="cpu")
    assert all(name.startswith("encoder.layer.5.") for name in tower.parameters())
    asking = {name for name, value in modules[0].model.named_parameters() if value.requires_grad}
    assert asking == set(tower.parameters())


@pytest.mark.parametrize("pooled", [True, False])
def test_a_prompt_counts_as_the_library_counts_it(model: SentenceTransformer, pooled: bool) -> None:
    """A tower puts the prompt before each text, and leaves its tokens out of the mean where the model does."""
    modules = copy.deepcopy(list(model))
    modules[1].include_prompt = pooled
    tower = tower_of(modules, layers=1, bf16=False, device="cpu", prompt="search for this: ")
    tower.read(TEXTS[:2])
    expected = SentenceTransformer(modules=modules, device="cpu").encode(TEXTS[:2], prompt="search for this: ")
    assert (vectors(tower, np.arange(2)) * expected).sum(axis=1).min() > 0.999999


@pytest.mark.parametrize("kind", [BertTower, LibraryTower])
def test_dropout_is_the_librarys_own(model: SentenceTransformer, kind: type[BertTower | LibraryTower]) -> None:
    """With gradients as much is dropped as when the library trains, the same for one seed; without them nothing is."""
    modules = copy.deepcopy(list(model))
    tower = kind(modules, layers="all", bf16=False, device="cpu", dropout=True)
    tower.read([TEXTS[1]] * 200)
    rows = np.arange(200)
    plain = torch.from_numpy(vectors(tower, rows[:1]))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(tower.forward(rows).detach())
    library = SentenceTransformer(modules=copy.deepcopy(list(model)), device="cpu").train()
    features = library.preprocess([TEXTS[1]] * 200)
    expected = torch.nn.functional.normalize(library(features)["sentence_embedding"], dim=-1).detach()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert model.encode(TEXTS[1]) @ plain[0].numpy() > 0.999999
    ours, theirs = (float((1 - vector @ plain.T).mean()) for vector in (found[0], expected))
    assert ours == pytest.approx(theirs, rel=0.1)
    assert theirs > 0.01


def test_many_tokens_keep_a_layers_input_alone(model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit gradients are the same to the bit, dropout and all, and a fifth of the bytes is kept for them."""
    kept, gradients = [], []
    for limit in (0, 10**9):
        monkeypatch.setattr("trainer.fitting.tower.FRUGAL", limit)
        tower = BertTower(copy.deepcopy(list(model)), layers="all", bf16=False, device="cpu", dropout=True)
        tower.read([TEXTS[3]] * 20)
        torch.manual_seed(5)
        size = 0

        def keep(value: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += 0 if isinstance(value, torch.nn.Parameter) else value.nbytes
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            loss = tower.forward(np.arange(20))[:, :7].sum()
        kept.append(size)
        loss.backward()
        gradients.append({name: value.grad for name, value in tower.parameters().items()})
    assert kept[0] < kept[1] / 5
    for name, gradient in gradients[1].items():
        assert gradient is not None
        assert torch.equal(gradients[0][name], gradient), name


def test_batches_of_any_size_meet_a_few_shapes(model: SentenceTransformer) -> None:
    """Sixty batches of any size pass a layer in six sizes; for each the library under it keeps programs of its own."""
    modules = copy.deepcopy(list(model))
    tower = BertTower(modules, layers=2, bf16=False, device="cpu")
    rng = np.random.default_rng(0)
    tower.read(["word " * int(words) for words in rng.integers(1, 60, 300)])
    sizes: set[int] = set()
    modules[0].model.encoder.layer[-1].intermediate.dense.register_forward_pre_hook(
        lambda _, given: sizes.add(len(given[0]))
    )
    for _ in range(60):
        tower.forward(rng.integers(0, 300, rng.integers(40, 80)))
    assert len(sizes) <= 6
