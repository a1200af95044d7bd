"""How true the evidence is on clicks of real people with human grades; prints one JSON object last.

    python -m benchmarks.real promises --logs ../shared/data/real
    python -m benchmarks.real order --logs ../shared/data/real
    python -m benchmarks.real week --logs ../shared/data/real
    python -m benchmarks.real alarms --logs ../shared/data/real --times 1000
    python -m benchmarks.real learning --logs ../shared/data/real --log trec --times 3

`promises`: a level is promised from 100 judged queries of a log and tested on all others, beside a logistic on log
rank, impressions, clicks and CTR. `order`: AUC against raw CTR at equal rank and exposure, and log likelihood of
held-out people against UBM. `week`: what 3,000 pages teach by the product's own reading, and the same pages after
exchanging clicks within (query, rank). `alarms`: how often the test of agreement holds at 0.5 % and at the product's
level on such clicks, and where only browsing differs by query; and of 50 such logs how many teach anything. `learning`:
see `benchmarks.real_learning`.

In `alarms` and `week` a query that has a single page exchanges its clicks with other such queries, rank by rank: within
itself nothing could change.

A log is a folder with `pages.jsonl.gz` and `grades.tsv.gz`. The product's own code does the work; only the drawing and
the counting stand here.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import print_result
from benchmarks.real_learning import learning
from benchmarks.real_taught import base_scores, clicked_pairs, named_pairs, taught
from flywheel.clicks.checks.agreement import LEVEL, agreement
from flywheel.clicks.checks.attraction import fit_attraction, order_by_clicks
from flywheel.clicks.checks.forecast import held_out
from flywheel.clicks.checks.order import auc, couples_across, couples_within
from flywheel.clicks.checks.promise import calibrate, columns_of, cross_fitted, promise
from flywheel.clicks.pages import Bools, ClickLog, Floats, ShownPage

JUDGED_QUERIES = 100
WEEK_PAGES = 3_000
TOLERANCE = 0.02
ALARM_LEVEL = 0.005
WHOLE_FITS = 50


@dataclass(frozen=True)
class Real:
    """A log, and of each pair whether it is relevant: 1, 0, or NaN where nobody judged it."""

    log: ClickLog
    relevant: Floats
    score: Floats | None = None

    @staticmethod
    def read(folder: Path, grade: float) -> Real:
        """Queries of different topics are different queries, even with the same text."""
        with gzip.open(folder / "pages.jsonl.gz", "rt", encoding="utf-8") as lines:
            pages = [json.loads(line) for line in lines]
        with gzip.open(folder / "grades.tsv.gz", "rt", encoding="utf-8") as lines:
            told = (line.rstrip("\n").split("\t") for line in lines)
            grades = {(topic, doc): float(value) for topic, doc, value in told}
        log = ClickLog.of(
            [
                ShownPage(
                    f"{page['query']}\t{page['judged']}", page["session"], page["ts_ms"], page["docs"],
                    {click["doc"] for click in page["clicks"]}, page["ranks"],
                )
                for page in pages
            ]
        )  # fmt: skip
        topics = [name.rpartition("\t")[2] for name in log.queries]
        found = np.array(
            [
                grades.get((topics[query], log.documents[doc]), np.nan)
                for query, doc in zip(log.pair_query, log.pair_document, strict=True)
            ]
        )
        return Real(log, np.where(np.isnan(found), np.nan, found >= grade))

    def exchanged(self, rng: np.random.Generator) -> ClickLog:
        """Clicks shuffled within (query, rank), each place of the page by itself; lone pages among themselves."""
        log, clicked = self.log, self.log.clicked.copy()
        alone = np.bincount(log.query, minlength=len(log.queries))[log.query] == 1
        group = np.where(alone, len(log.queries), log.query)
        by_group = np.argsort(group, kind="stable")
        for column in range(clicked.shape[1]):
            clicked[by_group, column] = log.clicked[np.argsort(group + rng.random(len(group))), column]
        return replace(log, clicked=clicked & log.shown)

    def browsing_alone(self, rng: np.random.Generator) -> ClickLog:
        """The same pages with clicks that depend on the rank alone, by a level and a decay of the query."""
        log, queries = self.log, len(self.log.queries)
        level, decay = np.exp(rng.normal(-2.2, 0.9, queries)), np.exp(rng.normal(0.2, 0.5, queries))
        rate = level[log.query][:, None] * np.maximum(log.rank, 1) ** -decay[log.query][:, None]
        return replace(log, clicked=(rng.random(rate.shape) < np.minimum(rate, 0.95)) & log.shown)


def promises(real: Real, seeds: range) -> dict[str, Any]:
    """By what was asked, ours and the logistic: kept within 2 points, shown, and precision at rank 1 and below."""
    counts = real.log.counts()
    raw = np.stack([np.log(counts.mean_rank), counts.impressions, counts.clicks, counts.ctr], axis=1)
    kinds = {"ours": columns_of(counts), "logistic": raw}
    return {
        f"asked_{asked:g}": {name: _promised(real, columns, asked, seeds) for name, columns in kinds.items()}
        for asked in (0.95, 0.9)
    }


def _promised(real: Real, columns: Floats, asked: float, seeds: range) -> dict[str, Any]:
    query, counts = real.log.pair_query, real.log.counts()
    known = ~np.isnan(real.relevant) & (counts.impressions > 0)
    topics = np.unique(query[known])
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        judged = np.isin(query, rng.choice(topics, min(JUDGED_QUERIES, len(topics) // 2), replace=False))
        inside, others = judged & known, ~judged & known
        relevant = real.relevant[inside]
        chance = cross_fitted(columns[inside], relevant, query[inside], rng)
        made = promise(chance, relevant, query[inside], asked, rng)
        if made is not None:
            taken = calibrate(columns[inside], relevant).probabilities(columns[others]) > made.threshold
            first = counts.mean_rank[others] < 1.5
            parts = {"all": taken, "first": taken & first, "below": taken & ~first}
            rows.append({"level": made.level, **_right(parts, real.relevant[others])})
    withheld = len(seeds) - len(rows)
    if not rows:
        return {"draws": len(seeds), "kept": withheld, "withheld": withheld, "shown": 0}
    kept = sum(row["right_all"] is None or row["right_all"] >= row["level"] - TOLERANCE for row in rows)
    told = {name: [row[name] for row in rows if row[name] is not None] for name in rows[0]}
    return {
        "draws": len(seeds),
        "kept": kept + withheld,
        "withheld": withheld,
        "shown": sum(row["level"] >= asked for row in rows),
        **{name: float(np.mean(values)) if values else None for name, values in told.items()},
    }


def _right(parts: dict[str, Bools], relevant: Floats) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, taken in parts.items():
        found[f"pairs_{name}"] = float(taken.sum())
        found[f"right_{name}"] = float(relevant[taken].mean()) if taken.any() else None
    return found


def order(real: Real, seeds: range) -> dict[str, Any]:
    """AUC of each score and its distance from CTR's, by kind of couple; held-out log likelihood a page by model."""
    rng, log = np.random.default_rng(seeds[0]), real.log
    counts, model = log.counts(), fit_attraction(log)
    ours = order_by_clicks(log, model.liveliness)
    scores = {"ctr": counts.ctr, "clicks_and_rank": ours, "attraction": model.attraction, "coec": counts.coec}
    found: dict[str, Any] = {}
    for name, couples in (
        ("within_queries", couples_within(real.relevant, log.pair_query, counts)),
        ("across_queries", couples_across(real.relevant, log.pair_query, counts, rng)),
    ):
        for part, chosen in (("", couples), ("_one_clicked", couples.one_clicked(counts.clicks))):
            values = {score: asdict(value) for score, value in auc(chosen, scores, rng).items()}
            found[name + part] = {"couples": len(chosen.query), **values}
    forecast = held_out(log, rng)
    for name, told in forecast.told.items():
        apart, low, high = forecast.apart(name, rng)
        found[name] = {"log_likelihood": float(told.mean()), "ours_minus_it": apart, "low": low, "high": high}
    return found


def week(real: Real, seeds: range) -> dict[str, Any]:
    """Draws of 3,000 pages: positives, how many are right beside the clicked pairs; and of exchanged clicks."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 3])
        pages = np.zeros(len(real.log.query), np.bool_)
        pages[rng.choice(len(pages), min(WEEK_PAGES, len(pages)), replace=False)] = True
        drawn = Real(real.log.only(pages), real.relevant)
        known = {pair for pair, right in zip(named_pairs(real.log), real.relevant, strict=True) if not np.isnan(right)}
        right = {pair for pair, right in zip(named_pairs(real.log), real.relevant, strict=True) if right == 1}
        clicked = {pair for pair in clicked_pairs(drawn.log) if pair in known}
        learned, none = taught(drawn.log, seed), taught(drawn.exchanged(rng), seed)
        judged = learned.positives & known
        rows.append({"p": learned.p, "reading": learned.reading, "carried": learned.carried,
                     "positives": len(judged), "exchanged_p": none.p,
                     "exchanged_positives": len(none.positives), "clicked": len(clicked),
                     "right": len(judged & right) / len(judged) if judged else None,
                     "clicked_right": len(clicked & right) / len(clicked)})  # fmt: skip
    enough = [
        row for row in rows if row["positives"] >= 0.5 * row["clicked"] and row["right"] >= row["clicked_right"] - 1e-9
    ]
    return {
        "draws": rows,
        "taught": sum(row["positives"] > 0 for row in rows),
        "enough": len(enough),
        "taught_exchanged": sum(row["exchanged_positives"] > 0 for row in rows),
    }


def alarms(real: Real, seeds: range) -> dict[str, Any]:
    """How often the test holds where it should not, and how many of the first 50 logs teach anything all the same."""
    found = {f"{kind}{level}": 0 for kind in ("exchanged", "browsing") for level in ("", "_at_products_level")}
    taught_by = 0
    for seed in seeds:
        rng = np.random.default_rng([seed, 5])
        shuffled = real.exchanged(rng)
        for kind, log in (("exchanged", shuffled), ("browsing", real.browsing_alone(rng))):
            p = agreement(log, rng).p
            found[kind] += p <= ALARM_LEVEL
            found[f"{kind}_at_products_level"] += p <= LEVEL
        if seed < WHOLE_FITS:
            taught_by += len(taught(shuffled, seed, real.score).positives) > 0
    return {"times": len(seeds), **found, "whole_fits": min(WHOLE_FITS, len(seeds)), "that_teach": taught_by}


MEASURES: dict[str, Callable[[Real, range], dict[str, Any]]] = {
    "promises": promises,
    "order": order,
    "week": week,
    "alarms": alarms,
}
TIMES = {"promises": 20, "order": 1, "week": 10, "alarms": 1_000, "learning": 3}


def main() -> None:
    """Read the command line, measure, print one JSON object on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=TIMES)
    parser.add_argument("--logs", type=Path, required=True, help="folder with a folder for each log")
    parser.add_argument("--log", default="clara2", help="which of them")
    parser.add_argument("--grade", type=float, default=3.0, help="relevant from this grade on")
    parser.add_argument("--times", type=int, help="draws or seeds; else 20, 1, 10, 1,000 and 3")
    parser.add_argument("--tier", default="query_tower", help="learning: what is trained")
    options = parser.parse_args()
    folder = options.logs / options.log
    seeds = range(options.times or TIMES[options.measure])
    if options.measure == "learning":
        print_result(learning(folder, options.tier, seeds), seeds)
        return
    real = Real.read(folder, options.grade)
    if options.measure == "alarms":
        real = replace(real, score=base_scores(folder, real.log))
    print_result(MEASURES[options.measure](real, seeds), seeds)


if __name__ == "__main__":
    main()
