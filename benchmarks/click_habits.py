"""Ways to click beyond `flywheel.rehearsal.people`: the click models of the literature, at several noise levels.

Each takes which results are relevant, (pages, k), and a generator, and returns what was clicked, (pages, k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.rehearsal.people import HABITS, SILENT, Afterwards, People

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Clicks = Callable[[Bools, np.random.Generator], Bools]


def examining(curve: Callable[[Floats], Floats], good: float = 0.9, bad: float = 0.1) -> Clicks:
    """Position-based people (Craswell et al., WSDM 2008) who examine rank k with probability `curve(k)`."""

    def click(pages: Bools, rng: np.random.Generator) -> Bools:
        rank = np.arange(1, pages.shape[1] + 1, dtype=np.float64)
        return (rng.random(pages.shape) < curve(rank)) & (rng.random(pages.shape) < np.where(pages, good, bad))

    return click


def descending(
    good: float = 0.9,
    bad: float = 0.1,
    *,
    after: tuple[float, float],
    without: float = 1.0,
    decay: float = 1.0,
) -> Clicks:
    """People who go down from the top and on to the next result with a probability that depends on the last.

    `after`: (relevant, irrelevant) chance to go on after a click, times `decay` for each rank; `without`: without one.
    (0.4, 0.9) with a decay is the dependent click model (Guo et al., WSDM 2009), (0.2, 0.8) with `without` below 1 the
    click chain (Guo et al., WWW 2009); (0, 0) is the cascade that ends at the first click (Craswell et al. 2008).
    """

    def click(pages: Bools, rng: np.random.Generator) -> Bools:
        clicked = np.zeros_like(pages)
        looking = np.ones(len(pages), dtype=np.bool_)
        for column in range(pages.shape[1]):
            relevant = pages[:, column]
            clicked[:, column] = looking & (rng.random(len(pages)) < np.where(relevant, good, bad))
            onward = np.where(relevant, after[0], after[1]) * decay**column
            looking &= rng.random(len(pages)) < np.where(clicked[:, column], onward, without)
        return clicked

    return click


def browsing(pages: Bools, rng: np.random.Generator) -> Bools:
    """User browsing model (Dupret & Piwowarski, SIGIR 2008): examination falls with rank and distance to a click."""
    clicked = np.zeros_like(pages)
    last = np.full(len(pages), -1)
    for column in range(pages.shape[1]):
        look = (column - last) ** -0.7 * (column + 1.0) ** -0.4
        clicked[:, column] = (rng.random(len(pages)) < look) & (
            rng.random(len(pages)) < np.where(pages[:, column], 0.9, 0.1)
        )
        last = np.where(clicked[:, column], column, last)
    return clicked


def mixed(shares: dict[Clicks, float]) -> Clicks:
    """A crowd in which each page is read by somebody of one habit or another."""

    def click(pages: Bools, rng: np.random.Generator) -> Bools:
        who = rng.choice(len(shares), size=len(pages), p=list(shares.values()))
        clicked = np.zeros_like(pages)
        for number, habit in enumerate(shares):
            clicked[who == number] = habit(pages[who == number], rng)
        return clicked

    return click


def known(name: str) -> Clicks:
    """One of `flywheel.rehearsal.people`'s habits as a function."""
    people = People(name, SILENT)  # type: ignore[arg-type]  # a name of HABITS, checked by the caller
    return lambda pages, rng: people.react(pages, rng).clicked


def noisy(share: float, habit: Clicks) -> Clicks:
    """The habit, but `share` of the pages get one click anywhere."""
    return mixed({habit: 1 - share, known("random"): share})


CLICKS: dict[str, Clicks] = {
    **{name: known(name) for name in HABITS},
    "pbm_sqrt": examining(lambda rank: rank**-0.5),
    "pbm_exp": examining(lambda rank: 0.7 ** (rank - 1)),
    "pbm_flat": examining(lambda rank: 0.6 + 0 * rank),
    "pbm_steep": examining(lambda rank: rank**-1.5),
    "pbm_noisy": examining(lambda rank: 1 / rank, 0.7, 0.2),
    "pbm_clean": examining(lambda rank: 1 / rank, 1.0, 0.0),
    "first_click": descending(after=(0.0, 0.0)),
    "dependent": descending(after=(0.5, 0.9), decay=0.9),
    "chain": descending(after=(0.2, 0.7), without=0.85),
    "cascade_noisy": descending(0.7, 0.2, after=(0.2, 0.8), without=0.9),
    "browsing": browsing,
    "noise_10": noisy(0.1, known("pbm")),
    "noise_30": noisy(0.3, known("pbm")),
    "crowd": mixed({known("pbm"): 0.4, known("cascade"): 0.3, known("trust"): 0.3}),
}

EXAMINATION: dict[str, Callable[[Floats], Floats]] = {
    "pbm": lambda rank: 1 / rank,
    "pbm_noisy": lambda rank: 1 / rank,
    "pbm_clean": lambda rank: 1 / rank,
    "pbm_sqrt": lambda rank: rank**-0.5,
    "pbm_exp": lambda rank: 0.7 ** (rank - 1),
    "pbm_flat": np.ones_like,
    "pbm_steep": lambda rank: rank**-1.5,
}
"""Chance to look at rank k, relative to rank 1, for the people who decide by the rank alone."""


def read_for(relevant: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How long, in ms, a click on each result would be read: by `Afterwards`, longer where it satisfies."""
    after = Afterwards()
    likes = np.where(relevant, after.satisfied_if_relevant, after.satisfied_if_irrelevant)
    typical = np.where(rng.random(relevant.shape) < likes, after.satisfied_ms, after.bounce_ms)
    return np.maximum(1, typical * np.exp(after.spread * rng.standard_normal(relevant.shape))).astype(np.int64)


@dataclass(frozen=True)
class Attack:
    """Colluders, one in twenty sessions, who click one document wherever it is shown.

    `rank`: the place at which their document stands most often. `polite`: they click like others where it is not
    shown. `sessions`: of each user id. `focused`: they only search what shows it. `obscure`: it is any document of any
    page, below the first rank, where it does not belong.
    """

    rank: int = 1
    polite: bool = False
    sessions: int = 3
    focused: bool = False
    obscure: bool = False


ATTACKS = {
    "popular": Attack(),
    "low": Attack(rank=8),
    "polite": Attack(polite=True),
    "scattered": Attack(sessions=1),
    "focused": Attack(rank=6, polite=True, focused=True),
    "persistent": Attack(rank=4, sessions=40, polite=True),
    "obscure": Attack(obscure=True),
}
