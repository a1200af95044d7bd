"""What is kept and what shares a step: bounded, even, seeded."""

from __future__ import annotations

import numpy as np

from trainer.data.replay import clusters, keep, schedule


def test_everything_is_kept_while_it_fits() -> None:
    """A reservoir with room drops nothing."""
    assert keep(np.arange(9), np.zeros(9, np.int64), size=9, seed=0).tolist() == list(range(9))


def test_rare_topics_and_old_periods_survive() -> None:
    """Of 10,000 pairs, 100 of an old rare topic keep their place among 800."""
    time = np.r_[np.zeros(100), np.full(9_900, 1)].astype(np.int64)
    cluster = np.r_[np.ones(100), np.zeros(9_900)].astype(np.int64)
    kept = keep(time, cluster, size=800, seed=0)
    assert len(kept) == 800
    assert (kept < 100).sum() == 100


def test_large_strata_share_evenly() -> None:
    """Two topics of 9,000 and 1,000 pairs get half of the room each."""
    cluster = np.r_[np.zeros(9_000), np.ones(1_000)].astype(np.int64)
    kept = keep(np.zeros(10_000, np.int64), cluster, size=500, seed=0)
    assert np.bincount(cluster[kept]).tolist() == [250, 250]


def test_the_same_seed_keeps_the_same_pairs() -> None:
    """Choice depends on the seed and on nothing else."""
    time, cluster = np.arange(1_000), np.arange(1_000) % 7
    first = keep(time, cluster, size=100, seed=3)
    np.testing.assert_array_equal(first, keep(time, cluster, size=100, seed=3))
    assert not np.array_equal(first, keep(time, cluster, size=100, seed=4))


def test_clusters_group_by_direction() -> None:
    """Near copies of a vector share its cell; the cells are at most 2 to the power of bits."""
    vectors = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    cells = clusters(vectors, bits=3)
    assert cells.max() < 8
    assert len(np.unique(cells)) > 4
    twins = clusters(np.concatenate([vectors, vectors + 1e-6]), bits=3)
    assert (twins[:200] == twins[200:]).mean() > 0.99


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
