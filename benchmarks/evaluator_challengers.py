"""Challengers of every kind before the gates, streams of them that share their luck, and worlds that strain a test."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.evaluator_worlds import BUDGET, DAY_MS, POLICY, Column, Visitors
from benchmarks.references import expected_false_promotions
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.live import Arms, LiveEvidence, decide_live
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.stats.budget import Spent
from flywheel.stats.estimate import Estimate
from flywheel.stats.ratio import ArmSums, log_ratio

# kind: (gain on seen documents, gain on unseen ones, what the reason must name)
OFFLINE = {
    "worse": (-0.02, -0.02, "loss beyond the margin"),
    "good on seen, bad on unseen": (0.06, -0.06, "unseen documents"),
    "better": (0.02, 0.02, "a gain"),
}
# kind: (gain in satisfied clicks, in all clicks, in latency, of the busiest twentieth alone, what the reason must name)
LIVE = {
    "clickbait": (-0.06, 0.08, 0.0, 0.0, "clickbait"),
    "slow": (0.06, 0.06, 0.30, 0.0, "latency_ms"),
    "gain of 5 % of users": (0.0, 0.0, 0.0, 0.5, "most active twentieth"),
    "better, live": (0.06, 0.06, 0.0, 0.0, "a gain"),
}


def challengers(seed: int, runs: int = 60) -> dict[str, Any]:
    """Each kind `runs` times before the gate that should tell: 1,000 judged queries, or up to four weeks live."""
    alpha = BUDGET.next_alpha([])
    answers: dict[str, Any] = {}
    for name, (seen, unseen, words) in OFFLINE.items():
        golden = (_golden(np.random.default_rng([seed, run]), seen, unseen) for run in range(runs))
        answers[name] = _summary([decide_offline(evidence, POLICY, alpha) for evidence in golden], words)
    for name, (*effects, words) in LIVE.items():
        played = [_live(np.random.default_rng([seed, run]), *effects, alpha=alpha) for run in range(runs)]
        answers[name] = _summary(played, words)
    return {"challengers": answers, "queries": 1_000, "alpha": alpha, "runs": runs}


def _summary(decisions: list[GateDecision], words: str) -> dict[str, Any]:
    shares = {verdict.value: sum(d.verdict is verdict for d in decisions) / len(decisions) for verdict in Verdict}
    right = [any(words in reason for reason in decision.reasons) for decision in decisions]
    example = next((d for d, named in zip(decisions, right, strict=True) if named), decisions[0])
    return {**shares, "right_reason": sum(right) / len(right), "reason": "; ".join(example.reasons[:2])}


def _golden(rng: np.random.Generator, seen: float, unseen: float, queries: int = 1_000) -> OfflineEvidence:
    """Four in ten queries move, with a spread of 0.25: the difference of one has a standard deviation of 0.16. Recall
    moves with nDCG, less finely."""
    is_seen = rng.random(queries) < 0.65
    champion = rng.beta(1.2, 0.7, queries)
    moved = np.where(rng.random(queries) < 0.4, rng.normal(np.where(is_seen, seen, unseen) / 0.4, 0.25), 0.0)
    recalled = (champion + moved + rng.normal(0, 0.1, queries) * (moved != 0), np.zeros(queries))
    return OfflineEvidence(
        {"ndcg@10": (champion, champion + moved), "recall@10": (champion, recalled[0])}, is_seen, np.arange(queries)
    )


def _live(
    rng: np.random.Generator, satisfied: float, clicked: float, slower: float, busiest: float, *, alpha: float
) -> GateDecision:
    """A split of 40,000 users, looked at daily until decided; nobody has many more pages than the tally caps."""
    users = 40_000
    busy = rng.pareto(1.6, users).clip(max=40)
    heavy = busy > np.quantile(busy, 0.95)
    rate = rng.beta(1.5, 4.5, users)
    treated = rng.random(users) < 0.5
    sums = {name: np.zeros(users) for name in ("pages", "ctr", "satisfied_ctr", "latency_ms")}
    gains = {"satisfied_ctr": satisfied + busiest * heavy, "ctr": clicked + busiest * heavy}
    day = 0
    while True:
        day += 1
        active = np.flatnonzero(rng.random(users) < 0.15)
        pages = 1 + rng.poisson(busy[active])
        sums["pages"][active] += pages
        for name, scale in (("ctr", 1.5), ("satisfied_ctr", 1.0)):
            own = rate[active] * scale * (1 + treated[active] * np.broadcast_to(gains[name], users)[active])
            sums[name][active] += rng.binomial(pages, own.clip(0, 1))
        sums["latency_ms"][active] += pages * rng.lognormal(4, 0.5, len(active)) * (1 + slower * treated[active])
        decision = decide_live(_evidence(sums, treated, float(day)), POLICY, alpha)
        if decision.final:
            return decision


def _evidence(sums: Mapping[str, Column], treated: Column, days: float) -> LiveEvidence:
    pages = sums["pages"]

    def arms(name: str, most: float = math.inf) -> Arms:
        rows = [(pages > 0) & (pages <= most) & side for side in (~treated.astype(bool), treated.astype(bool))]
        champion, challenger = (ArmSums.of(sums[name][row], pages[row]) for row in rows)
        return champion, challenger

    metrics = {name: arms(name) for name in sums if name != "pages"}
    steady = arms("satisfied_ctr", float(np.quantile(pages[pages > 0], 0.95)))
    counts = {"champion": metrics["ctr"][0].users, "challenger": metrics["ctr"][1].users}
    return LiveEvidence(metrics, steady, users=counts, shares={"champion": 0.5, "challenger": 0.5}, days=days)


def stream(seed: int, years: int = 30, queries: int = 200) -> dict[str, Any]:
    """Weekly challengers, none better, on one golden set, each promotion becoming what the next is held against: how
    many a year pass the offline gate when they are independent, and when most of their luck is common."""
    found: dict[str, Any] = {"alpha": BUDGET.alpha, "bound": expected_false_promotions(BUDGET), "years": years}
    for name, common in (("independent", 0.0), ("alike", 0.9)):
        rng = np.random.default_rng([seed, int(common * 10)])
        found[name] = sum(_null_year(rng, common, queries) for _ in range(years)) / years
        print(f"stream, {name}: {found[name]:.3f} a year", file=sys.stderr)
    return {"false_promotions_per_year": max(found["independent"], found["alike"]), **found}


def _null_year(rng: np.random.Generator, common: float, queries: int) -> int:
    """False promotions of one year; the models are equally good over all the queries that there could be."""
    base = rng.beta(1.2, 0.7, queries)

    def luck() -> Column:
        return np.where(rng.random(queries) < 0.4, rng.normal(0, 0.25, queries), 0.0)

    direction, champion, seen = luck(), base, rng.random(queries) < 0.65
    history: list[Spent] = []
    for week in range(52):
        challenger = base + common * direction + math.sqrt(1 - common**2) * luck()
        recalled = [scores + rng.normal(0, 0.05, queries) for scores in (champion, challenger)]
        metrics = {"ndcg@10": (champion, challenger), "recall@10": (recalled[0], recalled[1])}
        alpha = BUDGET.next_alpha(history, week * 7 * DAY_MS)
        decision = decide_offline(OfflineEvidence(metrics, seen, np.arange(queries)), POLICY, alpha)
        promoted = decision.verdict is Verdict.PROMOTE
        history.append(Spent(decision.spent, promoted, week * 7 * DAY_MS))
        champion = challenger if promoted else champion
    return sum(past.promoted for past in history)


World = tuple[tuple[int, int], dict[str, float], Callable[[int], float], Callable[[int], float]]


def _steadily(_day: int) -> float:
    return 0.0


def _by_weekday(day: int) -> float:
    return 0.5 * math.sin(2 * math.pi * day / 7)


# users by arm, what they are like, the challenger's gain by day, everybody's change by day
WORLDS: dict[str, World] = {
    "plain": ((1_500, 1_500), {"rate": 0.25}, _steadily, _steadily),
    "ctr 0.02": ((1_500, 1_500), {"rate": 0.02}, _steadily, _steadily),
    "ctr 0.6": ((1_500, 1_500), {"rate": 0.6}, _steadily, _steadily),
    "90/10": ((2_700, 300), {"rate": 0.25}, _steadily, _steadily),
    "90/10, ctr 0.02": ((2_700, 300), {"rate": 0.02}, _steadily, _steadily),
    "10/90, ctr 0.02": ((300, 2_700), {"rate": 0.02}, _steadily, _steadily),
    "few users, ctr 0.02": ((260, 260), {"rate": 0.02}, _steadily, _steadily),
    "activity of tail 1.1": ((1_500, 1_500), {"rate": 0.25, "tail": 1.1}, _steadily, _steadily),
    "one user with a tenth of an arm": ((1_500, 1_500), {"rate": 0.25, "whale": 60.0}, _steadily, _steadily),
    "users all or nothing": ((1_500, 1_500), {"rate": 0.1, "alike": 0.3}, _steadily, _steadily),
    "weekdays": ((1_500, 1_500), {"rate": 0.25}, _steadily, _by_weekday),
    "novelty: +20 % for three days, then -2 %": (
        (1_500, 1_500),
        {"rate": 0.25},
        lambda day: 0.20 if day <= 3 else -0.02,
        _steadily,
    ),
}


def variants(seed: int, runs: int = 200, days: int = 28) -> dict[str, Any]:
    """Arms that are equal (or worse after a novel start) in worlds that strain the tests, looked at every day: how
    often each is promoted, or rejected, at 5 %; and how often the last day's 95 % interval holds the truth."""
    found = {}
    for name, (users, kind, gain, everybody) in WORLDS.items():
        counts = np.zeros(3)
        for run in range(runs):
            counts += _one_world(np.random.default_rng([seed, run]), users, kind, (gain, everybody), days)
        found[name] = dict(zip(("promoted", "rejected", "covered"), (counts / runs).round(4).tolist(), strict=True))
        print(f"variants, {name}: {found[name]}", file=sys.stderr)
    quiet = [figures for name, figures in found.items() if not name.startswith("novelty")]
    return {
        "worst_promoted": max(figures["promoted"] for figures in found.values()),
        "worst_rejected": max(figures["rejected"] for figures in quiet),
        "worlds": found,
        "runs": runs,
    }


def _one_world(
    rng: np.random.Generator,
    users: tuple[int, int],
    kind: dict[str, float],
    by_day: tuple[Callable[[int], float], Callable[[int], float]],
    days: int,
) -> Column:
    """Promoted, rejected, covered: 1 or 0 each."""
    arms = [Visitors(rng, size, **kind) for size in users]
    ended = np.zeros(3)
    sums = (ArmSums(), ArmSums())
    for day in range(1, days + 1):
        share = 0.15 * (1 + by_day[1](day))
        arms[0].visit(share, gain=by_day[1](day) / 5)
        arms[1].visit(share, gain=by_day[1](day) / 5 + by_day[0](day))
        sums = ArmSums.of(*arms[0].seen()), ArmSums.of(*arms[1].seen())
        decision = decide_live(LiveEvidence({"satisfied_ctr": sums}, days=float(day)), POLICY, 0.05)
        if decision.verdict is not Verdict.INCONCLUSIVE and not ended.any():
            ended[:2] = decision.verdict is Verdict.PROMOTE, decision.verdict is Verdict.REJECT
    last = log_ratio(*sums)
    ended[2] = isinstance(last, Estimate) and last.interval()[0] <= 0 <= last.interval()[1]
    return ended
