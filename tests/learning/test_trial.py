"""The labels of a field: what clicks single out, whatever a rank does to them."""

from __future__ import annotations

import json

import numpy as np

from flywheel.clicks.evidence import Evidence
from flywheel.learning.trial import Labels, singled_out

QUERIES, DOCUMENTS, PAGES = 40, 8, 60


def simulated(relevant: np.ndarray, decay: float, seed: int, *, swapped: bool) -> Evidence:
    """Pages of a position-based user: `relevant` (queries, documents); swapped: the order differs between pages."""
    rng = np.random.default_rng(seed)
    shown = np.zeros((QUERIES, DOCUMENTS, DOCUMENTS))
    clicked = np.zeros_like(shown)
    for query in range(QUERIES):
        for _ in range(PAGES):
            order = rng.permutation(DOCUMENTS) if swapped else np.arange(DOCUMENTS)
            chance = np.where(relevant[query, order], 0.8, 0.1) * decay ** np.arange(DOCUMENTS)
            shown[query, order, np.arange(DOCUMENTS)] += 1
            clicked[query, order, np.arange(DOCUMENTS)] += rng.random(DOCUMENTS) < chance
    query, document, rank = np.nonzero(shown)
    none = np.zeros(QUERIES * DOCUMENTS)
    return Evidence(
        tuple(f"q{n}" for n in range(QUERIES)),
        tuple(f"d{n}" for n in range(DOCUMENTS)),
        np.repeat(np.arange(QUERIES), DOCUMENTS).astype(np.int32),
        np.tile(np.arange(DOCUMENTS), QUERIES).astype(np.int32),
        none, none, none,
        (query * DOCUMENTS + document).astype(np.int32),
        (rank + 1).astype(np.int32),
        np.zeros(len(rank), np.int32),
        shown[query, document, rank],
        clicked[query, document, rank],
        np.zeros(2, np.int64),
        np.zeros(0, np.int32),
    )  # fmt: skip


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((QUERIES, DOCUMENTS)) < 0.2


def test_what_is_singled_out_is_relevant_at_every_rank() -> None:
    """Where people look ever less further down, relevant documents are still found, at the last ranks too."""
    for swapped in (True, False):
        relevant = drawn(1)
        found = singled_out(simulated(relevant, 0.75, 2, swapped=swapped)).reshape(QUERIES, DOCUMENTS) > 0
        assert (found & relevant).sum() > 0.9 * found.sum()
        assert (found & relevant)[:, 4:].sum() > 0.6 * relevant[:, 4:].sum()


def test_a_rank_alone_singles_nothing_out() -> None:
    """Where nothing is relevant, the first rank gets no more labels than the last, and few get any."""
    found = singled_out(simulated(np.zeros((QUERIES, DOCUMENTS), bool), 0.75, 3, swapped=False))
    first, last = (found.reshape(QUERIES, DOCUMENTS)[:, part].mean() for part in (slice(0, 4), slice(4, 8)))
    assert abs(first - last) < 0.15
    assert found.mean() < 0.25


def test_labels_are_read_from_a_file_as_they_were_written() -> None:
    """What a run keeps for the process that goes on after a kill is what it had."""
    for shown in (None, (("a", "b"), ("c",))):
        labels = Labels("clicks", ("x", "y"), ({"a": 1.0}, {"c": 0.5}), shown, np.array([True, False]))
        again = Labels.of(json.loads(json.dumps(labels.as_dict())))
        assert (again.kind, again.queries, again.grades, again.shown) == (
            "clicks",
            labels.queries,
            labels.grades,
            shown,
        )
        assert again.unseen.tolist() == [True, False]
