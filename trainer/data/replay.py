"""Chooses which queries share a step, and how many of them are replayed, with a seeded generator.

It does not draw the earlier pairs: `flywheel.store.training.pairs.PairTable.replay` does, in SQL.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def schedule(new: Rows, replay: Rows, *, steps: int, batch_size: int, share: float, seed: int) -> list[Rows]:
    """The queries of each step: `share` of a batch from `replay` (where there are any), the rest from `new`.

    Each source is shuffled anew for every pass over it, so that no query comes twice before all came once.
    """
    generator = np.random.default_rng(seed)
    from_replay = 0 if not len(replay) else batch_size if not len(new) else round(batch_size * share)
    old = _endless(replay, from_replay * steps, generator).reshape(steps, -1)
    fresh = _endless(new, (batch_size - from_replay) * steps, generator).reshape(steps, -1)
    # A small source may fill a batch more than once over; a query counts once in a step.
    return [np.unique(np.concatenate([fresh[step], old[step]])) for step in range(steps)]


def _endless(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if count == 0:
        return np.empty(0, np.int64)
    rounds = [generator.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(rounds)[:count].astype(np.int64)
