"""A field of challengers none of which is better: how often does the best of it pass the gate?

Each turn draws a field, chooses the best by selection labels that the gate never sees, and lets the offline gate decide
on the golden set with what the error budget allows. Ranks of champion and challengers are exchangeable, so every
promotion is false. `leaked` chooses by the gate's own queries instead: what the disjoint labels are there to prevent.

    python -m benchmarks.field --turns 1000 --field 6
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import print_result
from flywheel.gates.decision import Verdict
from flywheel.gates.judged import policy_of
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.settings.load import Config
from flywheel.stats.budget import ErrorBudget, Spent

WEEK_MS = 7 * 86_400_000
GOLDEN = (23, 60, 161)
SELECTION = 80
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """nDCG@10 and recall@10 of the champion (row 0) and the field on some queries, (1 + field, queries) each."""

    ndcg: Scores
    recall: Scores

    def of(self, challenger: int) -> dict[str, tuple[Scores, Scores]]:
        """What the gate takes; `challenger` counts from 1."""
        return {
            "recall@10": (self.recall[0], self.recall[challenger]),
            "ndcg@10": (self.ndcg[0], self.ndcg[challenger]),
        }


def ranked(rng: np.random.Generator, queries: int, field: int, alike: float = 0.5) -> Judgement:
    """Each query's one relevant document under a champion and a field that are exchangeable with one another.

    Half of what moves a challenger moves all of them (`alike`): they learned from the same evidence.
    """
    hard = rng.normal(0.8, 1.2, queries)
    shared, own = rng.normal(size=queries), rng.normal(size=(field, queries))
    moved = np.vstack([rng.normal(size=queries), np.sqrt(alike) * shared + np.sqrt(1 - alike) * own])
    rank = np.floor(np.exp(hard + 0.35 * moved))
    found = rank < 10
    return Judgement(np.where(found, 1 / np.log2(np.maximum(rank, 0) + 2), 0.0), found.astype(np.float64))


def turns(count: int, field: int, seed: int, *, leaked: bool = False) -> dict[str, Any]:
    """One turn a week; what was promoted beside what the levels that were used allow on average."""
    config = Config()
    policy, budget = policy_of(config), ErrorBudget(alpha=config.promotion.alpha)
    rng, history = np.random.default_rng([seed, field, leaked]), list[Spent]()
    promoted, allowed, verdicts = 0, 0.0, dict.fromkeys(Verdict, 0)
    for turn in range(count):
        queries = GOLDEN[turn % len(GOLDEN)]
        golden, selection = ranked(rng, queries, field), ranked(rng, SELECTION, field)
        chosen = 1 + int((golden if leaked else selection).ndcg[1:].mean(axis=1).argmax())
        at_ms = turn * WEEK_MS
        alpha = budget.next_alpha([past for past in history if past.at_ms > at_ms - 20 * WEEK_MS], at_ms)
        evidence = OfflineEvidence(golden.of(chosen), np.arange(queries) % 2 == 0, np.arange(queries))
        decision = decide_offline(evidence, policy, alpha)
        verdicts[decision.verdict] += 1
        if decision.spent:
            allowed += decision.spent
            better = decision.verdict is Verdict.PROMOTE
            promoted += better
            history.append(Spent(decision.spent, better, at_ms))
    return {
        "turns": count,
        "promoted": promoted,
        "allowed": round(allowed, 2),
        "error": round(float(np.sqrt(allowed)), 2),
        "verdicts": {verdict.value: number for verdict, number in verdicts.items()},
    }


def main() -> None:
    """Read the command line, run, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--field", type=int, default=6, help="challengers in each turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = turns(options.turns, options.field, options.seed)
    leaked = turns(options.turns, options.field, options.seed, leaked=True)
    print_result({"field": options.field, **found, "leaked": leaked}, [options.seed])


if __name__ == "__main__":
    main()
