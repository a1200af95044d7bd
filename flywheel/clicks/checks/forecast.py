"""How well click models foretell pages that they did not see: log likelihood a page, and perplexity by rank.

People held out tell how a model generalises to others, the next day how it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from flywheel.clicks.checks.attraction import fit_attraction
from flywheel.clicks.checks.baselines import fit_dbn, fit_pbm, fit_ubm
from flywheel.clicks.pages import LAST_RANK, Bools, ClickLog, Floats, Ints

DAY_MS = 86_400_000
FOLDS = 4
_DRAWS = 1_000


class Foretelling(Protocol):
    """A fitted model of clicks."""

    def rates(self, log: ClickLog) -> Floats: ...


MODELS: Mapping[str, Callable[[ClickLog], Foretelling]] = {
    "attraction": fit_attraction,
    "pbm": fit_pbm,
    "ubm": fit_ubm,
    "dbn": fit_dbn,
}
"""Ours first; the others are held against it."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What each model of `MODELS` foretold of pages that it had not seen.

    `told[name]`: natural log likelihood of each page's clicks, (pages,). `rate[name]`: the chance that it gave each
    place, (pages, width). `log` are those pages. `usual`: how often each page's query was among the pages fitted to.
    """

    log: ClickLog
    told: Mapping[str, Floats]
    rate: Mapping[str, Floats]
    usual: Ints

    def perplexity(self, name: str) -> Floats:
        """(ranks,): 2 to the mean of -log2 p(click or skip) at each rank, NaN where no page reaches.

        Dupret & Piwowarski (SIGIR 2008, section 4.2), here given the clicks further up. 1 is certain, 2 a coin.
        """
        shown = self.log.shown
        nats = _surprise(self.rate[name], self.log.clicked)[shown]
        count = np.bincount(self.log.rank[shown], minlength=LAST_RANK + 1)[1:]
        total = np.bincount(self.log.rank[shown], nats, LAST_RANK + 1)[1:]
        found: Floats = np.where(count > 0, np.exp(total / np.maximum(count, 1)), np.nan)
        return found

    def apart(self, name: str, rng: np.random.Generator) -> tuple[float, float, float]:
        """Log likelihood a page of the first model minus this one's, and its 95 % interval, queries resampled."""
        ours = next(iter(self.told.values()))
        _, which = np.unique(self.log.query, return_inverse=True)
        pages, apart = np.bincount(which), np.bincount(which, ours - self.told[name])
        drawn = rng.multinomial(len(pages), np.full(len(pages), 1 / len(pages)), size=_DRAWS)
        low, high = np.quantile((drawn @ apart) / (drawn @ pages), [0.025, 0.975])
        return float(apart.sum() / pages.sum()), float(low), float(high)

    def parts(self) -> dict[str, Bools]:
        """Pages by how often their query was asked before: head, middle and tail.

        The pages are ordered by that, and cut where each part has a third of them, queries whole. What was never asked
        before is tail.
        """
        order = np.sort(self.usual)[::-1]
        high, low = order[len(order) // 3], order[2 * len(order) // 3]
        head = (self.usual > high) | ((self.usual == high) & (high > low))
        tail = (self.usual <= low) & ~head
        return {"head": head, "middle": ~head & ~tail, "tail": tail}


def held_out(log: ClickLog, rng: np.random.Generator) -> Forecast:
    """People in 4 folds: each one's pages are foretold by models fitted to the other people's."""
    fold = (rng.permutation(int(log.person.max()) + 1) % FOLDS)[log.person]
    return _joined([_foretold(log.only(fold != part), log.only(fold == part)) for part in range(FOLDS)], log)


def forward(log: ClickLog, days: int) -> Forecast | None:
    """The last `days` days (UTC), each foretold by models fitted to all pages before it; None for a single day."""
    day = log.ts_ms // DAY_MS
    scored = list(_days(day, days))
    if not scored:
        return None
    return _joined([_foretold(log.only(day < today), log.only(day == today)) for today in scored], log)


def _days(day: Ints, most: int) -> Iterator[int]:
    """Days that have pages and are not the first."""
    yield from np.unique(day)[1:][-most:].tolist()


def _foretold(train: ClickLog, test: ClickLog) -> Forecast:
    rate = {name: fit(train).rates(test) for name, fit in MODELS.items()}
    told = {name: -np.where(test.shown, _surprise(p, test.clicked), 0.0).sum(axis=1) for name, p in rate.items()}
    usual = np.bincount(train.query, minlength=len(train.queries))
    return Forecast(test, told, rate, usual[test.query])


def _joined(parts: list[Forecast], log: ClickLog) -> Forecast:
    """One forecast of all parts' pages."""
    parts = [part for part in parts if len(part.log.query)]
    columns = ("query", "person", "ts_ms", "pair", "rank", "clicked")
    pages: dict[str, Any] = {name: np.concatenate([getattr(part.log, name) for part in parts]) for name in columns}
    whole = replace(log, **pages)
    told = {name: np.concatenate([part.told[name] for part in parts]) for name in MODELS}
    rate = {name: np.concatenate([part.rate[name] for part in parts]) for name in MODELS}
    return Forecast(whole, told, rate, np.concatenate([part.usual for part in parts]))


def _surprise(rate: Floats, clicked: Bools) -> Floats:
    """-log of the chance of what happened, natural."""
    p = np.clip(rate, 1e-6, 1 - 1e-6)
    found: Floats = -np.where(clicked, np.log(p), np.log1p(-p))
    return found
