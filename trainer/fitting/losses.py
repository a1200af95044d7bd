"""Losses over a batch of queries and documents that both train: ranking, triplets, nested lengths, distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from flywheel.settings.sections import Distillation, Loss

TRIPLET_MARGIN = 0.2  # in cosine


def nested(vectors: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """`vectors` (n, d) whole, and cut to each size and made unit again (Kusupati, Matryoshka, 2022).

    Raises:
        ValueError: a size that is not below d.
    """
    if any(not 0 < size < vectors.shape[1] for size in sizes):
        raise ValueError(f"trainer.matryoshka: sizes must be below the model's {vectors.shape[1]}, got {list(sizes)}")
    return [vectors, *(functional.normalize(vectors[:, :size], dim=-1) for size in sizes)]


def contrast(cosines: torch.Tensor, answers: torch.Tensor, *, kind: Loss, scale: float) -> torch.Tensor:
    """Loss (n,) of cosines (n, m), whose column i is query i's own document.

    Args:
        answers: (n, m) bool, other columns that are or may be answers: they never count against a query.
        kind: ranking: cross-entropy over the columns (MultipleNegativesRanking; Henderson, 2017). triplet: the
            hardest column must lie a margin below the query's own (Hermans, In Defense of the Triplet Loss, 2017).
        scale: cosine times this is the logit.
    """
    masked = cosines.masked_fill(answers, -torch.inf)
    if kind == "ranking":
        return functional.cross_entropy(
            scale * masked, torch.arange(len(cosines), device=cosines.device), reduction="none"
        )
    own = cosines.diagonal()
    others = masked.masked_fill(torch.eye(*cosines.shape, dtype=torch.bool, device=cosines.device), -torch.inf)
    return functional.relu(TRIPLET_MARGIN + others.amax(dim=1) - own)


def distil(logits: torch.Tensor, teacher: torch.Tensor, there: torch.Tensor, *, kind: Distillation) -> torch.Tensor:
    """Mean loss of a student's logits (n, g) against its teacher's; column 0 is the right document.

    Args:
        there: (n, g) bool, which columns are filled.
        kind: kl: KL divergence of the softmaxes over the columns. margin_mse: squared difference of the margins
            between column 0 and each other one (Hofstätter, Improving Efficient Neural Ranking Models, 2020).
    """
    if kind == "kl":
        student, wanted = (value.masked_fill(~there, -1e9).log_softmax(dim=1) for value in (logits, teacher))
        return (wanted.exp() * (wanted - student)).sum(dim=1).mean()
    difference = (logits[:, :1] - logits) - (teacher[:, :1] - teacher)
    others = there.clone()
    others[:, 0] = False
    return (difference.square() * others).sum() / others.sum().clamp_min(1)
