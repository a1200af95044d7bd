"""The ranking loss of frozen documents: the sampled softmax against the exact one, and what people rejected."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests import defaults
from trainer.data import examples
from trainer.data.dataset import Corpus, Snapshot, read_snapshot, write_snapshot
from trainer.data.recipe import Recipe
from trainer.data.sparse import Sparse
from trainer.fitting import ranking
from trainer.fitting.ranking import Exact, Sampled, boosted, nearest

DOCUMENTS, WIDTH = 3_000, 16


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, examples.Examples, np.ndarray]:
    labels = ["positive", "positive", "ambiguous", "negative"]
    rows = [
        {"query": f"q{query}", "doc_id": f"d{40 * query + place}", "label": label, "weight": 0.5, "posterior": 0.9}
        for query in range(20)
        for place, label in enumerate(labels)
    ]
    folder = write_snapshot(
        tmp_path_factory.mktemp("ranking") / "s",
        header=defaults.header(),
        recipe=Recipe(dev_share=0.0),
        budget=defaults.training(),
        pairs=pa.Table.from_pylist(rows),
        documents=Corpus([f"d{number}" for number in range(DOCUMENTS)], unit(DOCUMENTS, 0)),
    )
    snapshot = read_snapshot(folder)
    return snapshot, examples.build(snapshot), unit(20, 1)


def loss_and_gradient(found: ranking.RankingLoss, vectors: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    asked = torch.from_numpy(vectors).requires_grad_()
    loss = found.loss(asked, np.arange(len(vectors)), step)
    (gradient,) = torch.autograd.grad(loss.sum(), asked)
    return loss.detach().numpy(), gradient.numpy()


def test_a_sample_of_everything_is_the_exact_softmax(
    world: tuple[Snapshot, examples.Examples, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the sample is the whole corpus nothing is estimated: masks, boosts, loss and gradient are exact."""
    snapshot, data, queries = world
    monkeypatch.setattr(ranking, "SAMPLE", DOCUMENTS)
    exact = loss_and_gradient(Exact(snapshot, data, device="cpu"), queries, 0)
    ours = loss_and_gradient(Sampled(snapshot, data, queries, device="cpu"), queries, 0)
    np.testing.assert_allclose(ours[0], exact[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], exact[1], atol=1e-4)


def test_the_sampled_normaliser_is_unbiased(
    world: tuple[Snapshot, examples.Examples, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many steps the mean of the estimated normaliser is the exact one, within three standard errors."""
    snapshot, data, queries = world
    monkeypatch.setattr(ranking, "SAMPLE", 100)
    monkeypatch.setattr(ranking, "HARD", 20)
    sampled = Sampled(snapshot, data, queries, device="cpu")
    exact = loss_and_gradient(Exact(snapshot, data, device="cpu"), queries, 0)[0].astype(np.float64)
    ratio = np.exp(
        [loss_and_gradient(sampled, queries, step)[0].astype(np.float64) - exact for step in range(300)]
    )  # the loss is the logarithm of the normaliser less the same constant
    error = ratio.std(axis=0, ddof=1) / 300**0.5
    assert (np.abs(ratio.mean(axis=0) - 1) < 4 * error).all()
    assert abs(float(ratio.mean()) - 1) < 0.01
    assert float(ratio.std(axis=0).mean()) < 0.2


def test_the_same_step_draws_the_same_sample(world: tuple[Snapshot, examples.Examples, np.ndarray]) -> None:
    """A resumed run repeats a step's loss to the bit; the next step draws anew."""
    snapshot, data, queries = world
    first, again = (Sampled(snapshot, data, queries, device="cpu") for _ in range(2))
    kept = loss_and_gradient(first, queries, 3)[0]
    np.testing.assert_array_equal(kept, loss_and_gradient(again, queries, 3)[0])


def test_mining_finds_the_nearest(world: tuple[Snapshot, examples.Examples, np.ndarray]) -> None:
    """In whatever blocks, the mined documents are those that a full sort puts first."""
    snapshot, _, queries = world
    found = nearest(queries, snapshot.vectors, 7, device="cpu", block=6)
    np.testing.assert_array_equal(found, np.argsort(-(queries @ snapshot.vectors.T), axis=1)[:, :7])


def test_what_people_rejected_counts_more_than_once(world: tuple[Snapshot, examples.Examples, np.ndarray]) -> None:
    """A thumbed-down document weighs as `rejected_weight` says, and pushes the query away from itself."""
    snapshot, data, queries = world
    assert len(data.rejected.rows) == 20
    np.testing.assert_allclose(np.exp(boosted(data, snapshot.recipe).values), 5.5)  # 1 + 9 · 0.5
    vector = snapshot.vectors[data.rejected.of(0)[0]]
    queries = np.tile(vector, (20, 1))
    nothing = Sparse(np.zeros(21, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    plain = dataclasses.replace(data, rejected=nothing)
    with_votes = loss_and_gradient(Exact(snapshot, data, device="cpu"), queries, 0)
    without = loss_and_gradient(Exact(snapshot, plain, device="cpu"), queries, 0)
    assert with_votes[0][0] > without[0][0] + 0.5
    assert with_votes[1][0] @ vector > without[1][0] @ vector
