"""Makes queries out of those that people asked: places where a model must stay put although nobody asked there.

A model held in place on the few queries that are replayed still drifts between them. Pseudo-rehearsal (Robins,
Catastrophic forgetting, rehearsal and pseudorehearsal, Connection Science 1995) rehearses the model's own answers to
inputs that stand for the old task; here these are old queries with words left out, and halves of two of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KEPT = (0.4, 0.85)  # share of a query's words that stay


def variants(texts: Sequence[str], *, count: int, seed: int) -> list[str]:
    """At most `count` distinct texts, evenly over `texts`: by turns with words left out, and joined from two halves."""
    if not texts:
        return []
    generator = np.random.default_rng(seed)
    distinct: dict[str, None] = {}
    for number in range(count):
        if number % len(texts) == 0:
            order = generator.permutation(len(texts))
        place = int(order[number % len(texts)])
        words, other = texts[place].split(), texts[int(generator.integers(len(texts)))].split()
        joins = (number // len(texts) + place) % 2
        distinct[" ".join(_joined(words, other, generator) if joins else _thinned(words, generator))] = None
    distinct.pop("", None)
    return list(distinct)


def _thinned(words: Sequence[str], generator: np.random.Generator) -> list[str]:
    count = max(1, round(len(words) * generator.uniform(*KEPT)))
    return [words[row] for row in np.sort(generator.permutation(len(words))[:count])]


def _joined(words: Sequence[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    middle = max(1, len(words) // 2)
    half = list(words[:middle] if generator.random() < 0.5 else words[middle:])
    rest = list(other[: len(other) // 2] if generator.random() < 0.5 else other[len(other) // 2 :])
    return half + rest if generator.random() < 0.5 else rest + half
