"""Simulated users for the evaluator's checks: heavy-tailed visits to a split, and pages that two rankers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.references import credit
from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.judged import policy_of
from flywheel.gates.live import LiveEvidence, decide_live
from flywheel.settings.load import Config
from flywheel.stats.budget import ErrorBudget, Spent
from flywheel.stats.interleaving import PreferenceSums, team_draft
from flywheel.stats.ratio import ArmSums

POLICY = policy_of(Config())
BUDGET = ErrorBudget(alpha=Config().promotion.alpha)
DAY_MS = 86_400_000
Column = npt.NDArray[np.float64]
RELEVANT_CLICK, OTHER_CLICK, SHOWN = 0.6, 0.05, 10


class Visitors:
    """One arm's users: few come often, each with a rate of satisfied clicks of their own; visits add up day by day.

    `tail` is the Pareto exponent of their activity (below 2: no variance), `alike` how near their rates are to each
    other, `whale` the activity of one user who comes every day.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        users: int,
        rate: float,
        *,
        tail: float = 1.6,
        alike: float = 6.0,
        whale: float = 0.0,
    ) -> None:
        self._rng = rng
        self._busy = rng.pareto(tail, users).clip(max=1_000)
        self._whale = whale
        self._rate = rng.beta(alike * rate, alike * (1 - rate), users)
        self.pages, self.clicks = np.zeros(users), np.zeros(users)

    def visit(self, share: float = 0.15, *, gain: float = 0.0) -> None:
        """One day: a share of the users come, with pages as busy as they are; `gain` is the day's relative one."""
        active = np.flatnonzero(self._rng.random(len(self._busy)) < share)
        self._see(active, self._busy[active], gain)
        if self._whale:
            self._see(np.array([0]), np.array([self._whale]), gain)

    def _see(self, who: npt.NDArray[np.int64], busy: Column, gain: float) -> None:
        pages = 1 + self._rng.poisson(busy)
        self.pages[who] += pages
        self.clicks[who] += self._rng.binomial(pages, (self._rate[who] * (1 + gain)).clip(0, 1))

    def seen(self) -> tuple[Column, Column]:
        """Clicks and pages of those who came."""
        came = self.pages > 0
        return self.clicks[came], self.pages[came]


@dataclass(frozen=True)
class Pool:
    """Queries, and pages drawn beforehand: click rates by rank under either ranker, and credits where they interleave.

    `champion` and `challenger` are float64 (queries, ranks), the credits float64 (pages,).
    """

    champion: Column
    challenger: Column
    credit_champion: Column
    credit_challenger: Column

    @property
    def gain(self) -> float:
        """Relative gain in clicks per page, exactly."""
        return float(self.challenger.sum() / self.champion.sum() - 1)


def pool(rng: np.random.Generator, gain: float, queries: int = 1_500, draws: int = 60) -> Pool:
    """Queries of 30 candidates; the challenger orders most of them as the champion does and is `gain` better in clicks.

    Without a gain each page stands twice, with the rankers' places swapped, so that the truth is exactly equal.
    """
    relevant = rng.random((queries, 30)) < 0.1
    shared, own, other = (rng.normal(0, 1, relevant.shape) for _ in range(3))
    champion = np.argsort(-(1.5 * relevant + 0.95 * shared + 0.3 * own), axis=1)
    low, high, wanted = -3.0, 3.0, (1 + gain) * _rates(relevant, champion).sum()
    for _ in range(25):
        middle = (low + high) / 2
        challenger = np.argsort(-((1.5 + middle) * relevant + 0.95 * shared + 0.3 * other), axis=1)
        low, high = (middle, high) if _rates(relevant, challenger).sum() < wanted else (low, middle)
    rates = _rates(relevant, champion), _rates(relevant, challenger)
    ours, theirs = _credits(rng, relevant, champion, challenger, draws)
    if gain:
        return Pool(*rates, ours, theirs)
    both = np.concatenate(rates), np.concatenate(rates[::-1])
    return Pool(*both, np.concatenate([ours, theirs]), np.concatenate([theirs, ours]))


def _rates(relevant: npt.NDArray[np.bool_], order: npt.NDArray[np.int64]) -> Column:
    top = np.take_along_axis(relevant, order[:, :SHOWN], axis=1)
    return np.asarray(np.where(top, RELEVANT_CLICK, OTHER_CLICK) / np.arange(1, SHOWN + 1))


def _credits(
    rng: np.random.Generator,
    relevant: npt.NDArray[np.bool_],
    champion: npt.NDArray[np.int64],
    challenger: npt.NDArray[np.int64],
    draws: int,
) -> tuple[Column, Column]:
    """What both earn on `draws` interleaved pages of every query, by the product's own draft."""
    earned = np.zeros((draws, len(relevant), 2))
    for row in range(len(relevant)):
        tops = [[str(doc) for doc in order[row, :SHOWN]] for order in (champion, challenger)]
        for draw in range(draws):
            page, teams = team_draft(tops[0], tops[1], SHOWN, rng)
            rates = np.where(relevant[row, [int(doc) for doc in page]], RELEVANT_CLICK, OTHER_CLICK)
            clicked = np.flatnonzero(rng.random(SHOWN) < rates / np.arange(1, SHOWN + 1)) + 1
            earned[draw, row] = credit(teams, clicked.tolist())
    return earned[..., 0].ravel(), earned[..., 1].ravel()


Challenger = Callable[[np.random.Generator, Pool, PromotionPolicy, float, int], tuple[int, GateDecision]]


def one_year(
    rng: np.random.Generator, worlds: dict[bool, Pool], share: float, users: int, challenger: Challenger
) -> list[dict[str, Any]]:
    """The challengers that went live in 52 weeks, oldest in the queue first, and how each ended."""
    history, ended = list[Spent](), list[dict[str, Any]]()
    week = 0
    while week < 52:
        better = bool(rng.random() < share)
        alpha = BUDGET.next_alpha(history, week * 7 * DAY_MS)
        weeks, decision = challenger(rng, worlds[better], POLICY, alpha, users)
        promoted = decision.verdict is Verdict.PROMOTE
        history.append(Spent(decision.spent, promoted, week * 7 * DAY_MS))
        ended.append({"better": better, "promoted": promoted, "weeks": weeks})
        week += weeks
    return ended


def shared(
    rng: np.random.Generator, world: Pool, policy: PromotionPolicy, alpha: float, users: int
) -> tuple[int, GateDecision]:
    """Interleaved for everybody, looked at once a week; a week sees a third of all users."""
    busy = rng.pareto(1.6, 3 * users).clip(max=1_000)
    earnings = np.zeros((2, len(busy)))
    week = 0
    while True:
        week += 1
        who, page = _week(rng, busy, users, len(world.credit_champion))
        for side, earned in enumerate((world.credit_champion, world.credit_challenger)):
            earnings[side] += np.bincount(who, weights=earned[page], minlength=len(busy))
        preference = PreferenceSums.of(earnings[0], earnings[1])
        decision = decide_live(LiveEvidence(preference=preference, days=7.0 * week), policy, alpha)
        if decision.final:
            return week, decision


def halves(
    rng: np.random.Generator, world: Pool, policy: PromotionPolicy, alpha: float, users: int
) -> tuple[int, GateDecision]:
    """The same people, half of them in each arm."""
    busy = rng.pareto(1.6, 3 * users).clip(max=1_000)
    treated = rng.random(len(busy)) < 0.5
    pages, clicks = np.zeros(len(busy)), np.zeros(len(busy))
    week = 0
    while True:
        week += 1
        who, page = _week(rng, busy, users, len(world.champion))
        rates = np.where(treated[who, None], world.challenger[page], world.champion[page])
        pages += np.bincount(who, minlength=len(busy))
        clicks += np.bincount(who, weights=(rng.random(rates.shape) < rates).sum(axis=1), minlength=len(busy))
        arms = [ArmSums.of(clicks[rows], pages[rows]) for rows in ((pages > 0) & ~treated, (pages > 0) & treated)]
        counts = {"champion": arms[0].users, "challenger": arms[1].users}
        evidence = LiveEvidence(
            {policy.live_metric: (arms[0], arms[1])}, users=counts, shares=dict.fromkeys(counts, 0.5), days=7.0 * week
        )
        decision = decide_live(evidence, policy, alpha)
        if decision.final:
            return week, decision


def _week(
    rng: np.random.Generator, busy: Column, users: int, pages: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Who sees a page, and which, one entry a page."""
    active = rng.choice(len(busy), users, replace=False)
    who = np.repeat(active, 1 + rng.poisson(busy[active]))
    return who, rng.integers(0, pages, len(who))
