"""Puts the answer of `flywheel evaluate --clicks` together: plain JSON, the same for programs and for the screen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from flywheel.clicks.checks.agreement import LEVEL, agreement
from flywheel.clicks.checks.attraction import fit_attraction, order_by_clicks
from flywheel.clicks.checks.forecast import MODELS, Forecast, forward, held_out
from flywheel.clicks.checks.meaning import Meaning
from flywheel.clicks.checks.order import auc, couples_across, couples_within, ranked
from flywheel.clicks.checks.promise import (
    CONFIDENCE,
    LEAST_PAIRS,
    LEAST_QUERIES,
    Promise,
    binned,
    calibrate,
    columns_of,
    cross_fitted,
    pairs_needed,
    promise,
)
from flywheel.clicks.pages import Bools, ClickLog, Floats, PairCounts
from flywheel.clicks.preferences import Agreeing
from flywheel.clicks.preferences import agreeing as agreeing_with
from flywheel.commands.clicks.home import Kept
from flywheel.stats.metrics import ndcg

DAYS = 7
RANKS = (1.0, 1.5, 3.5, 10.5)
EXPOSURES = (1.0, 2.0, 4.0, 10.0)
CHANCES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
_CUT = 10
_TOLD_RANKS = 10
_PEOPLE = 8
Json = dict[str, Any]


def summary(kept: Kept) -> Json:
    """What there is: pages (read, and in all), people, queries, pairs, clicked pairs, clicks."""
    log = kept.log
    clicked = kept.log.counts().clicks > 0
    return {
        "pages": len(log.query),
        "pages_in_all": kept.pages,
        "people": len(np.unique(log.person)),
        "queries": len(log.queries),
        "pairs": log.pairs,
        "clicked_pairs": int(clicked.sum()),
        "clicks": int(log.clicked.sum()),
        "positives": int(kept.positive.sum()),
    }


def agreeing(log: ClickLog, rng: np.random.Generator) -> Json:
    """The test, whether it holds, and what that means in one sentence."""
    found = agreement(log, rng)
    return {**asdict(found), "holds": found.holds, "level": LEVEL, "meaning": Meaning(found).sentence}


def preferred(kept: Kept) -> Json:
    """What people preferred of neighbours in a random order, and how often the evidence agrees."""
    found, log = kept.preferences, kept.log
    told: Json = {"pages": int(found.pages.sum()), "preferences": int(found.preferred.sum())}
    if not told["pages"]:
        return {**told, "meaning": "no page had two neighbours in a random order: see exploration.swaps"}
    # fitted to the other pages: a click that is a preference would else agree with itself
    apart = log.only(~kept.fair)
    clicks = agreeing_with(found, fit_attraction(apart).attraction) if apart.clicked.any() else None
    told["clicks_of_other_pages"] = None if clicks is None else asdict(clicks)
    run = agreeing_with(found, kept.posterior)
    told["posterior"] = None if run is None else asdict(run)
    return {**told, "meaning": _what_is_preferred(clicks)}


def _what_is_preferred(found: Agreeing | None) -> str:
    if found is None:
        return "too few preferences to tell whether the clicks of other pages agree with them"
    if found.low > 0.5:
        return f"without any model of examination, people prefer what other pages' clicks prefer in {found.share:.0%}"
    return f"people prefer what other pages' clicks prefer in {found.share:.0%}: no more than chance explains"


def foretold(forecast: Forecast, rng: np.random.Generator) -> Json:
    """By model: log likelihood a page, ours minus it with its 95 % interval, and perplexity by rank."""
    return {name: _of_model(forecast, name, rng) for name in MODELS}


def _of_model(forecast: Forecast, name: str, rng: np.random.Generator) -> Json:
    apart, low, high = forecast.apart(name, rng)
    perplexity = [None if np.isnan(value) else float(value) for value in forecast.perplexity(name)[:_TOLD_RANKS]]
    told = float(forecast.told[name].mean())
    return {"log_likelihood": told, "ours_minus_it": apart, "low": low, "high": high, "perplexity": perplexity}


def likelihoods(log: ClickLog, rng: np.random.Generator) -> Json:
    """People in folds, each foretold by a fit to the others; a reason where there are too few people for that."""
    people = len(np.unique(log.person))
    if people < _PEOPLE:
        return {"inconclusive": f"{people} people are too few to hold some out: it needs {_PEOPLE}"}
    return {"models": foretold(held_out(log, rng), rng)}


def days_ahead(log: ClickLog) -> Json:
    """The last days, each foretold by all pages before it, by head, middle and tail queries."""
    forecast = forward(log, DAYS)
    if forecast is None:
        return {"inconclusive": "all pages are of one day (UTC): there is no next day to foretell"}
    found: Json = {"days": len(np.unique(forecast.log.ts_ms // 86_400_000)), "pages": len(forecast.log.query)}
    for part, inside in forecast.parts().items():
        told = {name: pages[inside] for name, pages in forecast.told.items()}
        found[part] = {
            "pages": int(inside.sum()),
            "queries": len(np.unique(forecast.log.query[inside])),
            "models": {name: float(pages.mean()) if len(pages) else None for name, pages in told.items()},
        }
    return found


def judged(kept: Kept, grade: Floats, from_grade: float, asked: float, rng: np.random.Generator) -> Json:
    """How well the evidence agrees with grades, (pairs,), NaN where nobody judged; relevant is `from_grade` or more."""
    log, counts = kept.log, kept.log.counts()
    relevant = np.where(np.isnan(grade), np.nan, grade >= from_grade)
    known: Bools = ~np.isnan(relevant) & (counts.impressions > 0)
    chance = np.full(log.pairs, np.nan)
    columns = columns_of(counts)
    chance[known] = cross_fitted(columns[known], relevant[known], log.pair_query[known], rng)
    scores = _scores(kept, counts)
    return {
        "pairs": int(known.sum()),
        "queries": len(np.unique(log.pair_query[known])),
        "relevant": float(relevant[known].mean()),
        "clicked": _precision(counts, relevant, known & (counts.clicks > 0)),
        "positives": _precision(counts, relevant, known & kept.positive),
        "by_posterior": _bins(kept.posterior, relevant, known & ~np.isnan(kept.posterior)),
        "by_calibrated_chance": _bins(chance, relevant, known),
        "ndcg": _ndcg(log, grade, known, scores, rng),
        "auc": _aucs(log, counts, relevant, {name: scores[name] for name in ("ctr", *scores)}, rng),
        "promise": _promised(kept, columns, relevant, chance, asked, rng),
    }


def _scores(kept: Kept, counts: PairCounts) -> dict[str, Floats]:
    """What orders documents: the run's posterior where it told of any, and what follows from the pages alone."""
    model = fit_attraction(kept.log)
    scores = {
        "ctr": counts.ctr,
        "coec": counts.coec,
        "mean_rank": -counts.mean_rank,
        "attraction": model.attraction,
        "clicks_and_rank": order_by_clicks(kept.log, model.liveliness),
    }
    if not np.isnan(kept.posterior).all():
        scores["posterior"] = np.nan_to_num(kept.posterior, nan=-1.0)
    return scores


def _precision(counts: PairCounts, relevant: Floats, among: Bools) -> Json:
    """Judged pairs and the share of them that is relevant: all, by mean rank, and by impressions."""
    right = relevant[among]
    found: Json = {"pairs": int(among.sum()), "right": float(right.mean()) if among.any() else None}
    for name, value, edges in (("by_rank", counts.mean_rank, RANKS), ("by_impressions", counts.impressions, EXPOSURES)):
        rows = binned(value[among], right, right, edges)
        found[name] = [{"from": row.low, "pairs": row.pairs, "right": row.right} for row in rows]
    return found


def _bins(chance: Floats, relevant: Floats, among: Bools) -> list[Json]:
    """A reliability curve: judged pairs by what was thought of them, and by how many were right."""
    rows = binned(chance[among], chance[among], relevant[among], CHANCES)
    return [{"from": row.low, "pairs": row.pairs, "expected": row.expected, "right": row.right} for row in rows]


def _ndcg(
    log: ClickLog, grade: Floats, known: Bools, scores: dict[str, Floats], rng: np.random.Generator
) -> dict[str, float | None]:
    """nDCG@10 of ranking what was shown and judged, a mean over queries that have a relevant document."""
    among, found = np.flatnonzero(known), {}
    for name, score in scores.items():
        lists = list(ranked(score, log.pair_query, among, rng).values())
        ids = [[str(pair) for pair in pairs.tolist()] for pairs in lists]
        told = [dict(zip(names, grade[pairs].tolist(), strict=True)) for names, pairs in zip(ids, lists, strict=True)]
        values = ndcg(ids, told, _CUT)
        found[name] = None if np.isnan(values).all() else float(np.nanmean(values))
    return found


def _aucs(
    log: ClickLog, counts: PairCounts, relevant: Floats, scores: dict[str, Floats], rng: np.random.Generator
) -> Json:
    """At equal rank and exposure, within and across queries, of all couples and of those with one clicked."""
    found: Json = {}
    for name, couples in (
        ("within_queries", couples_within(relevant, log.pair_query, counts)),
        ("across_queries", couples_across(relevant, log.pair_query, counts, rng)),
    ):
        for part, chosen in (("", couples), ("_one_clicked", couples.one_clicked(counts.clicks))):
            values = {score: asdict(value) for score, value in auc(chosen, scores, rng).items()}
            found[name + part] = {"couples": len(chosen.query), "scores": values}
    return found


def _promised(
    kept: Kept, columns: Floats, relevant: Floats, chance: Floats, asked: float, rng: np.random.Generator
) -> Json:
    """The level that can be promised and for how many pairs of the log, or how many judged ones it would take."""
    known, log = ~np.isnan(chance), kept.log
    made = promise(chance[known], relevant[known], log.pair_query[known], asked, rng)
    if made is None:
        needed = max(LEAST_PAIRS, pairs_needed(asked, (1 + asked) / 2))
        queries = len(np.unique(log.pair_query[known]))
        return {"asked": asked, "level": None, "pairs_needed": needed, "meaning": _no_promise(asked, needed, queries)}
    everywhere = calibrate(columns[known], relevant[known]).probabilities(columns)
    found = {**asdict(made), "pairs_of_the_log": int((everywhere > made.threshold).sum())}
    return {**found, "meaning": _what_is_promised(made, found["pairs_of_the_log"])}


def _no_promise(asked: float, needed: int, queries: int) -> str:
    few = f" and {LEAST_QUERIES} judged queries (there are {queries})" if queries < LEAST_QUERIES else ""
    return (
        f"nothing can be promised yet: it takes about {needed} judged pairs that are surely relevant{few} to show "
        f"{asked:.0%} where {(1 + asked) / 2:.1%} are"
    )


def _what_is_promised(made: Promise, pairs: int) -> str:
    words = (
        f"of the {pairs} likeliest pairs at least {made.level:.1%} are relevant, with a confidence of {CONFIDENCE:.0%}"
    )
    if made.level >= made.asked:
        return words
    if made.pairs_needed is None:
        return f"{words}; {made.asked:.0%} cannot be shown: {made.precision:.1%} of the judged ones are right"
    return f"{words}; to show {made.asked:.0%} takes about {made.pairs_needed} judged pairs like them, not {made.pairs}"
