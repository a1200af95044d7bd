"""Verdicts with the sums that reproduce them: rows of `ab_outcomes`.

It does no statistics: effect, interval and verdict come from the evaluator. A statement in docs/analysts.md recomputes
them from the sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from flywheel.store.schema.database import Database
from flywheel.store.schema.times import moment

LOG_RATIO = "log ratio"
_SUMS = ("users", "pages", "pages_sq", "sum", "sum_sq", "sum_pages")
_BEFORE = ("before", "before_sq", "sum_before", "pages_before")


@dataclass(frozen=True, slots=True)
class OutcomeSums:
    """Sums over one arm's units (users, or groups of judged queries). A unit has pages and a total of the metric."""

    users: int
    pages: float
    pages_sq: float
    sum: float
    sum_sq: float
    sum_pages: float
    before: float = 0.0
    before_sq: float = 0.0
    sum_before: float = 0.0
    pages_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one metric of one part. `cross_sum` is given if the same units saw both arms."""

    experiment_id: str
    stage: str
    metric: str
    part: str
    champion: OutcomeSums
    challenger: OutcomeSums
    verdict: str
    reasons: tuple[str, ...]
    updated_at_ms: int
    cross_sum: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    critical: float | None = None
    p_value: float | None = None
    e_value: float | None = None
    e_loss: float | None = None
    scale: str = "difference"
    effective: float | None = None
    coverage: float | None = None

    @property
    def relative_effect(self) -> float | None:
        """Effect over the champion's mean; None if either is missing."""
        if self.effect is not None and self.scale == LOG_RATIO:
            return math.expm1(self.effect)
        if self.effect is None or not self.champion.pages or not self.champion.sum:
            return None
        return self.effect / (self.champion.sum / self.champion.pages)


class Outcomes:
    """Reads and writes of `ab_outcomes`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write rows. A row of the same experiment, stage, metric and part is replaced."""
        if not outcomes:
            return
        with self._database.write() as con:
            con.register("incoming", pa.Table.from_pylist([_row(outcome) for outcome in outcomes]))
            try:
                con.execute(
                    "DELETE FROM ab_outcomes a USING incoming i WHERE a.experiment_id = i.experiment_id "
                    "AND a.stage = i.stage AND a.metric = i.metric AND a.part = i.part"
                )
                con.execute("INSERT INTO ab_outcomes BY NAME SELECT * FROM incoming")
            finally:
                con.unregister("incoming")

    def of(self, experiment_id: str) -> list[dict[str, Any]]:
        """An experiment's rows as plain values, times in epoch milliseconds."""
        with self._database.read() as con:
            table = con.sql(
                "SELECT * REPLACE (epoch_ms(updated_at) AS updated_at) FROM ab_outcomes WHERE experiment_id = ? "
                "ORDER BY stage, metric, part",
                params=[experiment_id],
            ).to_arrow_table()
        return list(table.to_pylist())


def offline(experiment_id: str, evidence: Mapping[str, Any], reasons: Sequence[str], now_ms: int) -> list[Outcome]:
    """The rows of an offline decision's evidence, in the form of `flywheel.gates.offline.decide_offline`."""
    return [
        _paired((experiment_id, "offline", metric, part), estimate, tuple(reasons), now_ms)
        for part, metrics in evidence["parts"].items()
        for metric, estimate in metrics.items()
    ]


def shadow(experiment_id: str, evidence: Mapping[str, Any], reasons: Sequence[str], now_ms: int) -> list[Outcome]:
    """The rows of a shadow's evidence, in the form of `flywheel.gates.shadow.decide_shadow`."""
    rows = {("satisfied_clicks", name): estimate for name, estimate in evidence["estimates"].items()}
    if evidence.get("latency"):
        rows["latency_ms", "all"] = evidence["latency"]
    return [
        _paired((experiment_id, "shadow", *key), estimate, tuple(reasons), now_ms, less_is_better="latency_ms" in key)
        for key, estimate in rows.items()
    ]


def _paired(
    key: tuple[str, str, str, str],
    found: Mapping[str, Any],
    reasons: tuple[str, ...],
    now_ms: int,
    *,
    less_is_better: bool = False,
) -> Outcome:
    champion, challenger, cross = _arms(found["sums"])
    shared = (*key, champion, challenger)
    effective, coverage = found.get("effective"), found.get("coverage")
    if "effect" not in found:
        why = str(found.get("inconclusive") or "no answer")
        return Outcome(
            *shared,
            verdict="inconclusive",
            reasons=(why,),
            updated_at_ms=now_ms,
            cross_sum=cross,
            effective=effective,
            coverage=coverage,
        )
    low, high, error = found["low"], found["high"], found["standard_error"]
    up, down = ("worse", "better") if less_is_better else ("better", "worse")
    return Outcome(
        *shared,
        verdict=up if low > 0 else down if high < 0 else "inconclusive",
        reasons=reasons,
        updated_at_ms=now_ms,
        cross_sum=cross,
        effect=found["effect"],
        low=low,
        high=high,
        level=0.95,
        critical=(high - low) / 2 / error if error else 0.0,
        p_value=found["p_gain"],
        effective=effective,
        coverage=coverage,
    )


def _arms(sums: Mapping[str, float]) -> tuple[OutcomeSums, OutcomeSums, float]:
    """Both arms' sums and the cross sum, from `flywheel.stats.paired.PairedSums.as_dict()`."""

    def arm(name: str) -> OutcomeSums:
        return OutcomeSums(
            users=int(sums["groups"]),
            pages=sums["queries"],
            pages_sq=sums["queries_squared"],
            sum=sums[name],
            sum_sq=sums[f"{name}_squared"],
            sum_pages=sums[f"{name}_queries"],
        )

    return arm("champion"), arm("challenger"), sums["champion_challenger"]


def _rows_of(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    for name, value in asdict(outcome).items():
        if name in {"champion", "challenger"}:
            yield from ((f"{name}_{key}", value[key]) for key in (*_SUMS, *_BEFORE))
        elif name == "updated_at_ms":
            yield "updated_at", moment(value)
        else:
            yield name, list(value) if name == "reasons" else value


def _row(outcome: Outcome) -> dict[str, Any]:
    design = "split" if outcome.cross_sum is None else "paired"
    return {**dict(_rows_of(outcome)), "design": design, "relative_effect": outcome.relative_effect}
