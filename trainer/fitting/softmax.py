"""Softmax cross-entropy of queries against every document at once, exact, a chunk of documents at a time.

The documents are frozen, so one pass yields the loss and its gradient together and nothing (n, documents) is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.data.sparse import Sparse

CHUNK = 4_096  # a chunk's logits stay in the processor's cache


@contextmanager
def quick_products(enabled: bool) -> Iterator[None]:
    """Matrix products of float32 that may round their factors to bfloat16; sums and results stay float32.

    On a CPU it also makes torch use oneDNN, which is faster even where it rounds nothing.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if enabled else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _CorpusSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: torch.Tensor,
        documents: torch.Tensor,
        targets: Sparse,
        masked: Sparse,
        boosted: Sparse | None,
        scale: float,
    ) -> torch.Tensor:
        entry, rows = (torch.from_numpy(part).to(queries.device) for part in (targets.entry, targets.rows))
        share = torch.from_numpy(targets.values).to(queries)
        # running maximum, normaliser and expected document: Milakov & Gimelshein, Online normalizer calculation for
        # softmax, 2018
        top = queries.new_full((len(queries), 1), -torch.inf)
        total, expected = queries.new_zeros((len(queries), 1)), torch.zeros_like(queries)
        hidden = [torch.from_numpy(part) for part in (masked.entry, masked.rows)]
        raised = None if boosted is None else [torch.from_numpy(x) for x in (boosted.entry, boosted.rows)]
        for start in range(0, len(documents), CHUNK):
            chunk = documents[start : start + CHUNK]
            logits = scale * (queries @ chunk.T)
            here = (hidden[1] >= start) & (hidden[1] < start + len(chunk))
            logits[hidden[0][here], hidden[1][here] - start] = -torch.inf
            if raised is not None and boosted is not None:
                here = (raised[1] >= start) & (raised[1] < start + len(chunk))
                more = torch.from_numpy(boosted.values).to(logits)[here.to(logits.device)]
                logits[raised[0][here], raised[1][here] - start] += more
            peak = torch.maximum(top, logits.amax(dim=1, keepdim=True))
            shrink, logits = (top - peak).exp_(), logits.sub_(peak).exp_()
            total = total * shrink + logits.sum(dim=1, keepdim=True)
            expected = expected * shrink + logits @ chunk
            top = peak
        wanted = torch.zeros_like(queries).index_add_(0, entry, share[:, None] * documents[rows])
        ctx.save_for_backward(scale * (expected / total - wanted))
        return (top + total.log()).squeeze(1) - scale * (queries * wanted).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad[:, None] * ctx.saved_tensors[0], None, None, None, None, None


def corpus_softmax(
    queries: torch.Tensor,
    documents: torch.Tensor,
    targets: Sparse,
    masked: Sparse,
    *,
    scale: float,
    boosted: Sparse | None = None,
) -> torch.Tensor:
    """Cross-entropy (n,) between each query's targets and its softmax over all documents.

    Args:
        queries: (n, d) float32. documents: (N, d), no gradient.
        targets: for each query its documents, with shares that sum to 1; none of them is masked.
        masked: for each query the documents that are neither right nor wrong; they leave the softmax.
        scale: cosine times this is the logit.
        boosted: for each query documents that count more than once, with the logarithm of how often (none masked).
    """
    loss: torch.Tensor = _CorpusSoftmax.apply(queries, documents, targets, masked, boosted, scale)
    return loss
