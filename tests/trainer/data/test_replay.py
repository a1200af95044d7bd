"""What shares a step: even, seeded, each query once."""

from __future__ import annotations

import numpy as np

from trainer.data.replay import schedule


def test_a_batch_holds_the_share_of_replay() -> None:
    """Each step has its share of replayed queries, and no query comes twice before all came once."""
    new, old = np.arange(100), np.arange(100, 400)
    steps = schedule(new, old, steps=10, batch_size=20, share=0.5, seed=0)
    assert all(((step >= 100).sum(), (step < 100).sum()) == (10, 10) for step in steps)
    assert len(np.unique(np.concatenate(steps))) == 200


def test_without_replay_batches_are_new_only_and_without_new_they_are_replay() -> None:
    """Either source fills the batch alone where the other is empty."""
    rows, none = np.arange(50), np.empty(0, np.int64)
    assert {len(step) for step in schedule(rows, none, steps=3, batch_size=16, share=0.5, seed=0)} == {16}
    assert {len(step) for step in schedule(none, rows, steps=3, batch_size=16, share=0.5, seed=0)} == {16}


def test_a_tiny_source_counts_a_query_once_in_a_step() -> None:
    """A batch larger than its source has each query once."""
    steps = schedule(np.arange(3), np.empty(0, np.int64), steps=2, batch_size=16, share=0.5, seed=0)
    assert [step.tolist() for step in steps] == [[0, 1, 2], [0, 1, 2]]
