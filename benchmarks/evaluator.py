"""What the evaluator's promises are worth, by simulation and against other packages: `evaluator.py CHECK --seed S`.

Each check runs the product's own functions and prints one JSON object on its last line.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.evaluator_challengers import challengers, stream, variants
from benchmarks.evaluator_worlds import Pool, Visitors, halves, one_year, pool, shared
from benchmarks.harness import print_result
from benchmarks.references import ONE_SCALE, expected_for
from flywheel.gates.decision import Verdict
from flywheel.gates.judged import policy_of
from flywheel.gates.live import LiveEvidence, decide_live
from flywheel.gates.shadow import MIN_COVERAGE, MIN_EFFECTIVE
from flywheel.gates.void import SRM_LEVEL
from flywheel.settings.load import Config, Promotion
from flywheel.stats.counterfactual import RankWeights, self_normalised
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.paired import PairedSums
from flywheel.stats.ratio import ArmSums, compare
from flywheel.stats.sequential import sequence
from flywheel.stats.srm import sample_ratio

ALPHA = 0.05
Column = npt.NDArray[np.float64]


def aa(seed: int, runs: int = 1_000, days: int = 60) -> dict[str, Any]:
    """Two equal arms, looked at every day: how often anything is promoted, and how often a per-page z-test would."""
    promoted = naive = 0
    policy = replace(policy_of(Config()), max_days=days + 1)
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        arms = Visitors(rng, 1_500, 0.25), Visitors(rng, 1_500, 0.25)
        ours = theirs = False
        for day in range(1, days + 1):
            for arm in arms:
                arm.visit()
            sums = [ArmSums.of(*arm.seen()) for arm in arms]
            theirs = theirs or _page_test(sums[0], sums[1]) <= ALPHA
            if not ours:
                evidence = LiveEvidence({"satisfied_ctr": (sums[0], sums[1])}, days=day)
                ours = decide_live(evidence, policy, ALPHA).verdict is Verdict.PROMOTE
        promoted, naive = promoted + ours, naive + theirs
        _progress("aa", run + 1, runs)
    return {
        "false_promotion_rate": promoted / runs,
        "runs": runs,
        "naive_rate": naive / runs,
        "alpha": ALPHA,
        "days": days,
    }


def _page_test(champion: ArmSums, challenger: ArmSums) -> float:
    """One-sided p-value of the two-proportion z-test that takes every page for independent."""
    both = (champion.value + challenger.value) / (champion.pages + challenger.pages)
    error = math.sqrt(both * (1 - both) * (1 / champion.pages + 1 / challenger.pages))
    return float(stats.norm.sf((challenger.ratio - champion.ratio) / error))


def year(seed: int, years: int = 40, users: int = 20_000) -> dict[str, Any]:
    """Weekly challengers queue for one live place: first none is better, then one in four by 3 % of clicks.

    Once with interleaved pages, once (`split`) with users split in halves; budget and policy are the defaults'.
    """
    worlds = {better: pool(np.random.default_rng(seed), 0.03 * better) for better in (False, True)}
    answers = {}
    for name, challenger, count in (("interleaving", shared, years), ("split", halves, years // 4)):
        rng = np.random.default_rng([seed, len(name)])
        plays = [
            [one_year(rng, worlds, share, users, challenger) for _ in _steps(f"{name}, {share:.0%} better", count)]
            for share in (0.0, 0.25)
        ]
        answers[name] = _year_figures(*plays)
        print(f"year, {name}: {answers[name]}", file=sys.stderr)
    return {
        **answers["interleaving"],
        "split": answers["split"],
        "alpha": Promotion().alpha,
        "challengers_per_year": 52,
        "years": years,
        "true_gain": worlds[True].gain,
    }


def _year_figures(null: list[list[dict[str, Any]]], mixed: list[list[dict[str, Any]]]) -> dict[str, Any]:
    live = [end for record in mixed for end in record]
    better = [end for end in live if end["better"]]
    weeks = [end["weeks"] for end in better if end["promoted"]]
    return {
        "false_promotions_per_year": sum(end["promoted"] for record in null for end in record) / len(null),
        "found_share": len(weeks) / max(1, len(better)),
        "median_weeks": float(np.median(weeks)) if weeks else None,
        "max_weeks": max(weeks, default=None),
        "false_promotions_per_mixed_year": sum(end["promoted"] and not end["better"] for end in live) / len(mixed),
        "went_live_per_year": {"none better": sum(map(len, null)) / len(null), "one in four": len(live) / len(mixed)},
    }


def interleaving(seed: int, users: int = 60_000, runs: int = 300) -> dict[str, Any]:
    """Users that an interleaving needs, over those that a split needs, for the same power on the same pages."""
    rng = np.random.default_rng(seed)
    world = pool(rng, 0.03)
    split, shared = _split_z(rng, world, users * 5), _shared_z(rng, world, users)
    ratio = (split**2 / (users * 5)) / (shared**2 / users)
    needed = math.ceil((1.645 + 0.842) ** 2 / (split**2 / (users * 5)))
    few = math.ceil(needed * ratio)
    power = np.mean([_shared_z(rng, world, few) > 1.645 for _ in _steps("interleaving", runs)])
    power_split = np.mean([_split_z(rng, world, needed) > 1.645 for _ in _steps("split", min(runs, 100))])
    return {
        "users_ratio": ratio,
        "users_split": needed,
        "users_interleaving": few,
        "power_split": float(power_split),
        "power_interleaving": float(power),
        "true_gain": world.gain,
    }


def _split_z(rng: np.random.Generator, world: Pool, users: int) -> float:
    arms = []
    for rates in (world.champion, world.challenger):
        pages = 1 + rng.poisson(rng.pareto(1.6, users // 2).clip(max=40))
        who = np.repeat(np.arange(users // 2), pages)
        page = rng.integers(0, len(rates), len(who))
        drawn = (rng.random((len(who), rates.shape[1])) < rates[page]).sum(axis=1)
        arms.append(ArmSums.of(np.bincount(who, weights=drawn), pages.astype(np.float64)))
    found = _known(compare(arms[0], arms[1]))
    return found.effect / found.standard_error


def _shared_z(rng: np.random.Generator, world: Pool, users: int) -> float:
    who = np.repeat(np.arange(users), 1 + rng.poisson(rng.pareto(1.6, users).clip(max=40)))
    page = rng.integers(0, len(world.credit_champion), len(who))
    sides = [np.bincount(who, weights=side[page]) for side in (world.credit_champion, world.credit_challenger)]
    found = _known(PreferenceSums.of(sides[0], sides[1]).compare())
    return found.effect / found.standard_error


def reference(seed: int, runs: int = 200) -> dict[str, Any]:
    """Effects, intervals and p-values beside gbstats' and scipy's on the same data, and sequences beside fixed ones."""
    from gbstats.frequentist.tests import FrequentistConfig, SequentialConfig, SequentialTwoSidedTTest, TwoSidedTTest
    from gbstats.models.statistics import RatioStatistic, SampleMeanStatistic

    def theirs(arm: ArmSums) -> RatioStatistic:
        value = SampleMeanStatistic(n=arm.users, sum=arm.value, sum_squares=arm.value_squared)
        pages = SampleMeanStatistic(n=arm.users, sum=arm.pages, sum_squares=arm.pages_squared)
        return RatioStatistic(n=arm.users, m_statistic=value, d_statistic=pages, m_d_sum_of_products=arm.value_pages)

    worst, narrower = 0.0, 0
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        visitors = Visitors(rng, 800, 0.25), Visitors(rng, 1_200, 0.27)
        for arm in visitors:
            for _ in range(10):
                arm.visit()
        arms = [ArmSums.of(*arm.seen()) for arm in visitors]
        found = _known(compare(arms[0], arms[1]))
        fixed = TwoSidedTTest(theirs(arms[0]), theirs(arms[1]), FrequentistConfig()).compute_result()
        watched = SequentialTwoSidedTTest(theirs(arms[0]), theirs(arms[1]), SequentialConfig())
        expected = expected_for(5_000, found.standard_error * math.sqrt(arms[0].users + arms[1].users))
        before, after = rng.random(120), rng.random(120)
        paired = _known(PairedSums.of(before, after).compare())
        pairs = [
            (found.effect, fixed.expected),
            (found.p_value(), fixed.p_value),
            (paired.p_value(), stats.ttest_rel(after, before).pvalue),
            *zip(found.interval(), fixed.ci, strict=True),
            *zip(sequence(found, expected=expected, scales=ONE_SCALE), watched.confidence_interval, strict=True),
        ]
        worst = max(worst, *(abs(ours - other) / max(abs(other), 1e-6) for ours, other in pairs))
        low, high = sequence(found, expected=expected)
        narrower += low > found.interval()[0] or high < found.interval()[1]
    return {"max_relative_difference": worst, "sequences_narrower": narrower, "runs": runs}


def srm(seed: int, runs: int = 2_000, users: int = 200_000) -> dict[str, Any]:
    """Alarms on splits that are off by one percentage point, by one percent of an arm, and on clean ones, looked at
    once and every day for four weeks."""

    def alarms(share: float) -> float:
        rng = np.random.default_rng([seed, int(share * 10_000)])
        splits = ({"a": int(n), "b": users - int(n)} for n in rng.binomial(users, share, runs))
        return sum(sample_ratio(split, {"a": 0.5, "b": 0.5}, level=SRM_LEVEL).mismatch for split in splits) / runs

    def watched() -> float:
        rng = np.random.default_rng([seed, 1])
        ever = 0
        for _ in range(runs):
            days = rng.binomial(users // 28, 0.5, 28).cumsum()
            counts = ({"a": int(a), "b": day * (users // 28) - int(a)} for day, a in enumerate(days, 1))
            ever += any(sample_ratio(count, {"a": 0.5, "b": 0.5}, level=SRM_LEVEL).mismatch for count in counts)
        return ever / runs

    found = {"caught": alarms(0.51), "caught_half_a_point": alarms(0.505), "false_alarms": alarms(0.5)}
    return {**found, "false_alarms_watched": watched(), "runs": runs}


def bandit(_seed: int) -> dict[str, Any]:
    """Open Bandit logs: each policy's click rate from the other's log; the truth is the other log's own rate.

    That rate has an error too, of some 40 clicks among 10,000 slots: inside is within 1.96 errors of the two together.
    """
    found: list[dict[str, Any]] = []
    for campaign in ("all", "men", "women"):
        logs = {policy: _bandit_log(policy, campaign) for policy in ("random", "bts")}
        for source, target in (("random", "bts"), ("bts", "random")):
            item, position, click, propensity = logs[source]
            aimed = _shares(logs[target])[item, position]
            answer = _rate(click, propensity, aimed)
            truth = float(logs[target][2].mean())
            case: dict[str, Any] = {"campaign": campaign, "from": source, "to": target, "truth": truth}
            if isinstance(answer, Inconclusive):
                case |= {"answer": "refused", "reason": answer.reason}
            else:
                error = math.hypot(answer.standard_error, math.sqrt(truth * (1 - truth) / len(logs[target][2])))
                case |= {"answer": "inside" if abs(answer.effect - truth) <= 1.96 * error else "wrong"}
                case |= {"value": answer.effect, "error": error}
            found.append(case)
    counts = {name: sum(case["answer"] == name for case in found) for name in ("inside", "refused", "wrong")}
    return {**counts, "cases": found}


def _rate(click: Column, propensity: Column, aimed: Column) -> Estimate | Inconclusive:
    """Click rate of the policy aimed at, by the shadow's own estimator, held against no clicks; slots are pages."""

    def sums(weight: Column, clicks: Column) -> RankWeights:
        columns = (weight, weight**2, weight * clicks, weight * clicks)
        return RankWeights(*(column[:, None] for column in columns))

    nobody = sums(np.ones(len(click)), np.zeros(len(click)))
    answer = self_normalised(np.ones((len(click), 1)), nobody, sums(aimed / propensity, click))
    return (
        answer
        if isinstance(answer, Inconclusive)
        else answer.estimate(min_effective=MIN_EFFECTIVE, min_coverage=MIN_COVERAGE)
    )


BanditLog = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _bandit_log(policy: str, campaign: str) -> BanditLog:
    """Items, positions, clicks and propensities, from the files that the `obp` package carries."""
    spec = importlib.util.find_spec("obp")
    if spec is None or spec.origin is None:
        raise SystemExit("the check needs the package obp: pip install 'flywheel-search[dev]'")
    path = Path(spec.origin).parent / "dataset" / "obd" / policy / campaign / f"{campaign}.csv"
    with path.open(encoding="utf-8") as file:
        rows = [(r["item_id"], r["position"], r["click"], r["propensity_score"]) for r in csv.DictReader(file)]
    table = np.array(rows, dtype=np.float64)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3]


def _shares(log: BanditLog) -> npt.NDArray[np.float64]:
    """How often a policy shows each item at each position: no clicks go into it."""
    counts = np.zeros((int(log[0].max()) + 1, int(log[1].max()) + 1))
    np.add.at(counts, (log[0], log[1]), 1.0)
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1.0))


def _known(answer: Estimate | Inconclusive) -> Estimate:
    if isinstance(answer, Inconclusive):
        raise TypeError(f"the simulation has no answer: {answer.reason}")
    return answer


def _steps(what: str, count: int) -> Iterator[int]:
    for step in range(count):
        yield step
        _progress(what, step + 1, count)


def _progress(what: str, done: int, total: int) -> None:
    if done % max(1, total // 10) == 0:
        print(f"{what}: {done} of {total}", file=sys.stderr)


CHECKS: dict[str, Callable[[int], dict[str, Any]]] = {
    check.__name__: check for check in (aa, year, interleaving, reference, srm, bandit, challengers, variants, stream)
}


def main() -> None:
    """Run one check and print its figures; of several seeds, each one's under `by_seed`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=sorted([*CHECKS, "scale"]))
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--beir", type=Path, help="scale: the documents of this collection instead of Python's own")
    parser.add_argument("--pages", type=int, default=1_000_000, help="scale: how many")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.seeds)
    by_seed = [{"seed": seed, **_check(options, seed)} for seed in seeds]
    figures = by_seed[0] if len(by_seed) == 1 else {"by_seed": by_seed}
    print_result({"check": options.check, **figures}, seeds)


def _check(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    if options.check != "scale":
        return CHECKS[options.check](seed)
    from benchmarks.evaluator_scale import scale

    return scale(seed, beir=options.beir, pages=options.pages)


if __name__ == "__main__":
    main()
