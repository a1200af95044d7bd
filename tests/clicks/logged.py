"""Simulated pages of which the truth is known, for the modules that read whole pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.clicks.pages import ClickLog, Floats, Ints, ShownPage

START_MS = 1_700_000_000_000
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Logged:
    """Pages with the attraction (queries, documents) behind them; documents of query q are `q-0`, `q-1`, ..."""

    log: ClickLog
    attraction: Floats

    def of_pairs(self) -> Floats:
        """The truth for each pair of the log."""
        names = [self.log.documents[document].split("-") for document in self.log.pair_document]
        return np.array([self.attraction[int(query), int(number)] for query, number in names])


def logged(
    attraction: Floats, examination: Floats, seed: int, pages: int = 4_000, *, after_click: float = 1.0
) -> Logged:
    """Each page shows its query's documents in an order by chance. Below a click people look `after_click` as often."""
    rng = np.random.default_rng(seed)
    queries, documents = attraction.shape
    width = len(examination)
    rows = []
    for number in range(pages):
        query = int(rng.integers(queries))
        shown = rng.permutation(documents)[:width]
        clicked: set[str] = set()
        for rank, document in enumerate(shown):
            looked = examination[rank] * (after_click if clicked else 1.0)
            if rng.random() < looked * attraction[query, document]:
                clicked.add(f"{query}-{document}")
        names = [f"{query}-{document}" for document in shown]
        rows.append(ShownPage(f"{query:03}", f"p{number}", START_MS + number * MINUTE_MS, names, clicked))
    return Logged(ClickLog.of(rows), attraction)


def browsing_alone(seed: int, pages: int = 600, queries: int = 20) -> ClickLog:
    """No document matters: each query has its own level and its own decay of clicks by rank, and nothing else."""
    rng = np.random.default_rng(seed)
    level, decay = rng.uniform(0.2, 0.8, queries), rng.uniform(0.2, 2.0, queries)
    rows = []
    for number in range(pages):
        query = int(rng.integers(queries))
        names = [f"{query}-{document}" for document in _near(rng)]
        rate = level[query] * np.arange(1.0, 7.0) ** -decay[query]
        clicked = {name for name, did in zip(names, rng.random(6) < rate, strict=True) if did}
        rows.append(ShownPage(f"{query:03}", f"p{number}", START_MS, names, clicked))
    return ClickLog.of(rows)


def _near(rng: np.random.Generator) -> Ints:
    """Six documents in an order that is mostly the same, as a ranker's."""
    order: Ints = np.argsort(np.arange(6) + rng.normal(0, 1, 6))
    return order
