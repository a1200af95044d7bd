"""The losses of the tier `full` against the library's own and against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.fitting.losses import contrast, distil, nested


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, width, generator=generator), dim=1)


def test_ranking_is_multiple_negatives_ranking() -> None:
    """Without masks the loss is the library's MultipleNegativesRankingLoss, hard negatives included."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    queries, documents = unit(4, 8, 0), unit(8, 8, 1)
    loss = MultipleNegativesRankingLoss(None, scale=20.0)  # type: ignore[arg-type]
    theirs = loss.compute_loss_from_embeddings([queries, documents[:4], documents[4:]], None)
    ours = contrast(queries @ documents.T, torch.zeros(4, 8, dtype=torch.bool), kind="ranking", scale=20.0)
    torch.testing.assert_close(ours.mean(), theirs)


def test_answers_never_count_against_a_query() -> None:
    """A masked column changes no loss however high it scores."""
    cosines, answers = torch.rand(2, 4), torch.zeros(2, 4, dtype=torch.bool)
    answers[0, 2] = True
    for kind in ("ranking", "triplet"):
        low, high = cosines.clone(), cosines.clone()
        low[0, 2], high[0, 2] = -1.0, 1.0
        found = [contrast(value, answers, kind=kind, scale=20.0) for value in (low, high)]  # type: ignore[arg-type]
        torch.testing.assert_close(found[0], found[1])


def test_triplets_ask_for_a_margin_over_the_hardest() -> None:
    """The loss is what the hardest column lacks of a distance of 0.2, and nothing once it keeps it."""
    cosines = torch.tensor([[0.9, 0.1, 0.8], [0.3, 0.9, 0.2]])
    found = contrast(cosines, torch.zeros(2, 3, dtype=torch.bool), kind="triplet", scale=20.0)
    torch.testing.assert_close(found, torch.tensor([0.1, 0.0]))


def test_nested_lengths_are_unit_and_checked() -> None:
    """Each cut is of unit length and points where the first coordinates point; a size beyond the model is refused."""
    whole = unit(3, 8, 2)
    cut = nested(whole, [4])[1]
    torch.testing.assert_close(cut.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(cut, functional.normalize(whole[:, :4], dim=1))
    with pytest.raises(ValueError, match=r"below the model's 8"):
        nested(whole, [8])


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn() -> None:
    """Both losses vanish at agreement up to a constant, equal the formula elsewhere, and ignore empty columns."""
    teacher = torch.tensor([[3.0, 1.0, 0.5], [2.0, 0.0, 9.0]])
    there = torch.tensor([[True, True, True], [True, True, False]])
    for kind in ("kl", "margin_mse"):
        assert abs(float(distil(teacher + 5, teacher, there, kind=kind))) < 1e-6  # type: ignore[arg-type]
    student = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, -7.0]])
    margins = np.array([2.0 - 0.0, 2.5 - 0.0, 2.0 + 1.0])
    assert float(distil(student, teacher, there, kind="margin_mse")) == pytest.approx(float((margins**2).mean()))
    expected = [
        functional.kl_div(student[row, :n].log_softmax(0), teacher[row, :n].softmax(0), reduction="sum")
        for row, n in ((0, 3), (1, 2))
    ]
    assert float(distil(student, teacher, there, kind="kl")) == pytest.approx(float(sum(expected)) / 2, abs=1e-6)
