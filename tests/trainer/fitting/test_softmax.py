"""The chunked corpus softmax against torch's own on the full matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.sparse import Sparse
from trainer.fitting import softmax
from trainer.fitting.softmax import corpus_softmax


def sparse(entries: list[list[tuple[int, float]]]) -> Sparse:
    triples = [(entry, row, value) for entry, pairs in enumerate(entries) for row, value in pairs]
    columns = list(zip(*triples, strict=True)) or [(), (), ()]
    return Sparse.build(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float32),
        entries=len(entries),
    )


@pytest.mark.parametrize("chunk", [3, 7, 10_000])
def test_loss_and_gradient_equal_the_full_softmax(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunk, value and gradient are those of log_softmax over the whole masked matrix."""
    monkeypatch.setattr(softmax, "CHUNK", chunk)
    torch.manual_seed(0)
    documents = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(3, 8), dim=1).requires_grad_()
    targets, masked = (
        sparse([[(1, 1.0)], [(4, 0.25), (19, 0.75)], [(0, 1.0)]]),
        sparse([[(2, 1.0), (3, 1.0)], [], [(7, 1.0)]]),
    )
    ours = corpus_softmax(queries, documents, targets, masked, scale=20.0)
    weights = torch.tensor([1.0, 2.0, 0.5])
    (gradient,) = torch.autograd.grad((ours * weights).sum(), queries)

    logits = 20.0 * queries @ documents.T
    wanted = torch.zeros(3, 20)
    wanted[0, 1], wanted[1, 4], wanted[1, 19], wanted[2, 0] = 1.0, 0.25, 0.75, 1.0
    logits = logits.masked_fill(
        torch.zeros(3, 20).index_put((torch.tensor([0, 0, 2]), torch.tensor([2, 3, 7])), torch.ones(3)).bool(), -1e30
    )
    expected = -(wanted * logits.log_softmax(dim=1)).sum(dim=1)
    (reference,) = torch.autograd.grad((expected * weights).sum(), queries)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


def test_taking_entries_keeps_their_rows() -> None:
    """A selection in any order carries each entry's own rows and values, empty ones too."""
    table = sparse([[(5, 1.0)], [], [(2, 0.5), (3, 0.5)]])
    taken = table.take(np.array([2, 1, 0]))
    assert taken.start.tolist() == [0, 2, 2, 3]
    assert taken.rows.tolist() == [2, 3, 5]
    assert taken.values.tolist() == [0.5, 0.5, 1.0]
    assert taken.entry.tolist() == [0, 0, 2]
