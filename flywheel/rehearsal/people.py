"""Simulated people: how somebody who knows what is relevant clicks, dwells and votes on a page of results.

For tests, benchmarks, `flywheel demo` and `flywheel simulate`. Pure numpy with the caller's generator; it learns
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from flywheel.settings.choices import Habit

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
HABITS: tuple[Habit, ...] = get_args(Habit)


@dataclass(frozen=True, slots=True)
class Reactions:
    """What people did with pages of k results; arrays of shape (pages, k), or (k,) for one page.

    `dwell_ms` is 0 where no dwell was measured; `thumbs` is 1 (up), -1 (down) or 0.
    """

    clicked: Bools
    dwell_ms: npt.NDArray[np.int64]
    thumbs: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What follows a click. With `dwell_rate = thumb_rate = 0` nothing does.

    A clicked document satisfies with probability `satisfied_if_relevant` or `satisfied_if_irrelevant`. It is then read
    for a median of `satisfied_ms`, otherwise for `bounce_ms`. Times scatter log-normally by `spread`.
    """

    dwell_rate: float = 0.9
    satisfied_if_relevant: float = 0.8
    satisfied_if_irrelevant: float = 0.15
    satisfied_ms: float = 90_000.0
    bounce_ms: float = 2_500.0
    spread: float = 0.5
    thumb_rate: float = 0.02
    thumb_error: float = 0.1


SILENT = Afterwards(dwell_rate=0.0, thumb_rate=0.0)
"""People who click and leave no other trace."""


@dataclass(frozen=True, slots=True)
class People:
    """People of one habit.

    - `pbm` examine rank k with probability 1/k. They click 0.9 of the relevant and 0.1 of the irrelevant ones examined.
    - `cascade` go down from the top and click with the same probabilities. They stop after a click with 0.8 (relevant)
      or 0.2, and go on without one with 0.9.
    - `trust` are pbm with 0.1 + 0.35/k for irrelevant and min(0.98, 0.9 + 0.1/k) for relevant documents.
    - `random` click one random result of each page.
    - `poison` are pbm, but a share `colluders` of them clicks only one document, wherever it is shown.
    """

    habit: Habit
    afterwards: Afterwards = field(default_factory=Afterwards)
    colluders: float = 0.05

    def colludes(self, users: npt.NDArray[np.int64]) -> Bools:
        """Which of these user numbers collude: spread evenly, and the same ones each time."""
        if self.habit != "poison" or self.colluders <= 0:
            return np.zeros(np.shape(users), dtype=np.bool_)
        # multiplicative hash (Knuth, TAOCP 3, 6.4): spreads them over all users, who are numbered by how busy they are
        return (np.asarray(users) * 0x9E3779B1 % 2**32) / 2**32 < self.colluders

    def react(
        self,
        relevant: Bools,
        rng: np.random.Generator,
        *,
        colluding: Bools | bool = False,
        target: Bools | None = None,
    ) -> Reactions:
        """React to one page (k,) or to many (pages, k); `target` marks the places of the colluders' document."""
        pages = np.atleast_2d(np.asarray(relevant, dtype=np.bool_))
        clicked = _CLICKS[self.habit](pages, rng)
        cheats = np.broadcast_to(np.asarray(colluding, dtype=np.bool_), pages.shape[:1])
        if cheats.any():
            wanted = np.zeros_like(pages) if target is None else np.atleast_2d(target)
            clicked = np.where(cheats[:, None], wanted, clicked)
        dwell_ms = _dwell(pages, clicked, self.afterwards, rng)
        thumbs = _thumbs(pages, clicked, self.afterwards, rng)
        if np.ndim(relevant) == 1:
            return Reactions(clicked[0], dwell_ms[0], thumbs[0])
        return Reactions(clicked, dwell_ms, thumbs)


def _ranks(pages: Bools) -> Floats:
    return np.arange(1, pages.shape[1] + 1, dtype=np.float64)


def _pbm(pages: Bools, rng: np.random.Generator) -> Bools:
    examined = rng.random(pages.shape) < 1 / _ranks(pages)
    return examined & (rng.random(pages.shape) < np.where(pages, 0.9, 0.1))


def _trust(pages: Bools, rng: np.random.Generator) -> Bools:
    rank = _ranks(pages)
    examined = rng.random(pages.shape) < 1 / rank
    attraction = np.where(pages, np.minimum(0.98, 0.9 + 0.1 / rank), 0.1 + 0.35 / rank)
    return examined & (rng.random(pages.shape) < attraction)


def _cascade(pages: Bools, rng: np.random.Generator) -> Bools:
    clicked = np.zeros_like(pages)
    looking = np.ones(len(pages), dtype=np.bool_)
    for column in range(pages.shape[1]):
        relevant = pages[:, column]
        clicked[:, column] = looking & (rng.random(len(pages)) < np.where(relevant, 0.9, 0.1))
        stop = np.where(clicked[:, column], np.where(relevant, 0.8, 0.2), 0.1)
        looking &= rng.random(len(pages)) >= stop
    return clicked


def _random(pages: Bools, rng: np.random.Generator) -> Bools:
    clicked = np.zeros_like(pages)
    if pages.shape[1]:
        clicked[np.arange(len(pages)), rng.integers(0, pages.shape[1], len(pages))] = True
    return clicked


_CLICKS: dict[Habit, Callable[[Bools, np.random.Generator], Bools]] = {
    "pbm": _pbm,
    "cascade": _cascade,
    "trust": _trust,
    "random": _random,
    "poison": _pbm,
}


def _dwell(pages: Bools, clicked: Bools, habits: Afterwards, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    measured = clicked & (rng.random(pages.shape) < habits.dwell_rate)
    likes = np.where(pages, habits.satisfied_if_relevant, habits.satisfied_if_irrelevant)
    satisfied = rng.random(pages.shape) < likes
    typical = np.where(satisfied, habits.satisfied_ms, habits.bounce_ms)
    dwell = typical * np.exp(habits.spread * rng.standard_normal(pages.shape))
    return np.where(measured, np.maximum(1, dwell), 0).astype(np.int64)


def _thumbs(pages: Bools, clicked: Bools, habits: Afterwards, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    votes = clicked & (rng.random(pages.shape) < habits.thumb_rate)
    mistaken = rng.random(pages.shape) < habits.thumb_error
    return np.where(votes, np.where(pages ^ mistaken, 1, -1), 0).astype(np.int8)
