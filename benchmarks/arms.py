"""What `flywheel evaluate --arms FILE --once` decides on logs whose truth is known: equal arms, and gains and losses.

Logs are judged as a user's file is: row by row, by `Log` and `judge`. Beside each verdict stands the plain test: two
proportions where everybody sees one page, the delta method over users where few see most pages. `python -m
benchmarks.arms` takes two minutes.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from benchmarks.harness import print_result
from flywheel.gates.judged import policy_of
from flywheel.gates.logged.arms import LogRules, judge
from flywheel.gates.logged.logs import LoggedTest, arm_of
from flywheel.settings.load import Config
from flywheel.stats.ratio import ArmSums, compare

ALPHA, USERS, RATE, Z = 0.05, 2_000, 0.1, 2.5
RULES = LogRules(policy_of(Config()), alpha=ALPHA, once=True)
Column = npt.NDArray[np.float64]
Arm = tuple[Column, Column]  # pages and clicks of each user


def one_page(rng: np.random.Generator, rate: float) -> Arm:
    """Everybody sees one page."""
    return np.ones(USERS), (rng.random(USERS) < rate).astype(float)


def heavy(rng: np.random.Generator, rate: float) -> Arm:
    """Few see most pages, and each has a rate of their own."""
    pages = 1 + np.floor(rng.pareto(1.6, USERS).clip(max=60))
    own = rng.beta(6 * rate, 6 * (1 - rate), USERS)
    return pages, rng.binomial(pages.astype(int), own).astype(float)


def plain_z(arms: tuple[Arm, Arm], *, pooled: bool) -> float:
    """The plain test's z: pooled two proportions, or the delta method."""
    (pages, clicks), (others, clicked) = arms
    if not pooled:
        found = compare(ArmSums.of(clicks, pages), ArmSums.of(clicked, others), relative=False)
        return float(getattr(found, "effect", 0.0)) / float(getattr(found, "standard_error", 1.0))
    rate = (clicks.sum() + clicked.sum()) / (len(clicks) + len(clicked))
    error = math.sqrt(rate * (1 - rate) * (1 / len(clicks) + 1 / len(clicked)))
    return float((clicked.mean() - clicks.mean()) / error)


def verdict(arms: tuple[Arm, Arm]) -> tuple[str, bool]:
    """Ours, and whether the busiest held a gain back."""
    most = float(np.quantile(np.concatenate([arms[0][0], arms[1][0]]), 0.95))
    rows = (
        np.column_stack([pages, clicks, np.full(len(pages), np.nan), np.zeros(len(pages))]) for pages, clicks in arms
    )
    test = LoggedTest("e", {name: arm_of(table, most) for name, table in zip(("control", "test"), rows, strict=True)})
    (found,) = judge(test, RULES)["comparisons"]
    return found["verdict"], any("most active twentieth" in reason for reason in found["reasons"])


def shift(world: Callable[[np.random.Generator, float], Arm], rng: np.random.Generator, z: float) -> float:
    """The second arm's rate at which the plain test's z is `z` on average."""
    errors = []
    for _ in range(20):
        pages, clicks = world(rng, RATE)
        errors.append(math.sqrt(2 * ArmSums.of(clicks, pages).spread() / len(pages)))
    return RATE + z * float(np.mean(errors))


def run(
    world: Callable[[np.random.Generator, float], Arm], rng: np.random.Generator, rate: float, logs: int
) -> dict[str, float]:
    """Shares of `logs` that ours and the plain test promote and reject."""
    need = float(special.ndtri(1 - ALPHA))
    counts: Counter[str] = Counter()
    for arms in ((world(rng, RATE), world(rng, rate)) for _ in range(logs)):
        z = plain_z(arms, pooled=world is one_page)
        said, busiest = verdict(arms)
        counts.update({said: 1, "busiest": busiest, "plain gain": z > need, "plain loss": z < -need})
    return {name: counts[name] / logs for name in ("promote", "reject", "busiest", "plain gain", "plain loss")}


def measured(logs: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """By world: equal arms, a gain and a loss of z = 2.5."""
    for name, world in (("one page", one_page), ("heavy", heavy)):
        rng = np.random.default_rng(seed)
        equal = run(world, rng, RATE, logs)
        gain, loss = (run(world, rng, shift(world, rng, z), logs) for z in (Z, -Z))
        yield (
            name,
            {
                "equal": equal,
                "two_errors": 2 * math.sqrt(ALPHA * (1 - ALPHA) / logs),
                "power_gain": gain["promote"] / gain["plain gain"],
                "power_loss": loss["reject"] / loss["plain loss"],
                "held_back": gain["busiest"],
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print_result({"alpha": ALPHA, "users": USERS, **dict(measured(given.logs, given.seed))}, [given.seed])


if __name__ == "__main__":
    main()
