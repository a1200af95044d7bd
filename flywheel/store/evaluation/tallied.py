"""Sums an experiment's rows by person up to sums by arm, from which verdicts are made.

It reads no pages; `tally` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.ratio import ArmSums
from flywheel.store.evaluation.own import OwnRule, summed_own
from flywheel.store.schema.times import millis

ROLES = ("champion", "challenger")
STEADY_SHARE = 0.95  # a gain that comes from the most active twentieth alone is doubted
# metric -> (numerator, pages that it is a share of), columns of experiment_people
METRICS = {
    "satisfied_ctr": ("satisfied", "pages"),
    "ctr": ("clicked", "pages"),
    "latency_ms": ("latency_ms", "timed"),
    "empty_rate": ("empty", "pages"),
    "abandonment": ("abandoned", "pages"),
    "thumbs_down": ("thumbs_down", "pages"),
}
# metric -> its covariate
BEFORE = {"satisfied_ctr": "sat", "ctr": "cl"}
_WIDTH = 10  # columns of one metric, see `_columns`


@dataclass(frozen=True, slots=True)
class Tallied:
    """Sums over people of everything counted, as (champion, challenger).

    `users` counts people by the arm they met first, whatever they met later. People who met more than one arm are
    `crossed` and in no other sum. `preference` is by satisfied clicks, `preference_clicks` by any. `steady` leaves out
    the twentieth with the most pages.
    """

    metrics: Mapping[str, tuple[ArmSums, ArmSums]]
    steady: Mapping[str, tuple[ArmSums, ArmSums]]
    preference: PreferenceSums
    preference_clicks: PreferenceSums
    users: Mapping[str, int]
    crossed: int
    first_ms: int | None
    until_ms: int
    pages: int
    over_cap: int
    anonymous: int


def summed(con: duckdb.DuckDBPyConnection, experiment_id: str, own: Mapping[str, OwnRule]) -> Tallied:
    """Everything counted for the experiment, on one snapshot."""
    tallies = con.execute(
        "SELECT first_ts, until_ts, pages, over_cap, anonymous FROM tallies WHERE experiment_id = ?", [experiment_id]
    ).fetchall()
    first, until, pages, over_cap, anonymous = tallies[0] if tallies else (None, None, 0, 0, 0)
    users = con.execute(
        "SELECT arm, count(*), count(*) FILTER (crossed) FROM experiment_people WHERE experiment_id = ? "
        "GROUP BY arm ORDER BY arm",
        [experiment_id],
    ).fetchall()
    busiest = con.execute(
        "SELECT quantile_disc(seen, ?) FROM experiment_people WHERE experiment_id = ? AND NOT crossed",
        [STEADY_SHARE, experiment_id],
    ).fetchall()[0][0]
    return Tallied(
        metrics=_arm_sums(con, experiment_id, None) | summed_own(con, experiment_id, own, None),
        # None would be everybody
        steady=_arm_sums(con, experiment_id, busiest or 0.0) | summed_own(con, experiment_id, own, busiest or 0.0),
        preference=_preference(con, experiment_id, "credit"),
        preference_clicks=_preference(con, experiment_id, "clicks"),
        users={arm: count for arm, count, _ in users},
        crossed=sum(crossed for _, _, crossed in users),
        first_ms=millis(first),
        until_ms=millis(until) or 0,
        pages=pages,
        over_cap=over_cap,
        anonymous=anonymous,
    )


def _arm_sums(
    con: duckdb.DuckDBPyConnection, experiment_id: str, busiest: float | None
) -> dict[str, tuple[ArmSums, ArmSums]]:
    """Each metric's sums. With `busiest` only over people who saw at most so many pages."""
    parts = [_columns(top, under, BEFORE.get(name)) for name, (top, under) in METRICS.items()]
    rows = con.execute(
        f"SELECT arm, {', '.join(parts)} FROM experiment_people p "  # noqa: S608 - our own names
        "LEFT JOIN (SELECT person, satisfied AS sat, clicked AS cl FROM experiment_before WHERE experiment_id = ?) b "
        "USING (person) WHERE experiment_id = ? AND NOT crossed AND arm <> 'interleaved' AND pages > 0 "
        "AND (?::DOUBLE IS NULL OR seen <= ?::DOUBLE) GROUP BY arm",
        [experiment_id, experiment_id, busiest, busiest],
    ).fetchall()
    by_arm = {row[0]: row[1:] for row in rows}
    return {
        name: (_sums(by_arm.get("champion"), place), _sums(by_arm.get("challenger"), place))
        for place, name in enumerate(METRICS)
        if by_arm
    }


def _columns(top: str, under: str, before: str | None) -> str:
    """The sums of `ArmSums`, in its order. A person who was not there before has a covariate of 0."""
    z = f"coalesce({before}, 0)::DOUBLE" if before else "0::DOUBLE"
    return (
        f"count(*) FILTER ({under} > 0), sum({under}), sum({under} * {under}), sum({top}), sum({top} * {top}), "
        f"sum({top} * {under}), sum({z}), sum({z} * {z}), sum({top} * {z}), sum({under} * {z})"
    )


def _sums(row: tuple[Any, ...] | None, place: int) -> ArmSums:
    if row is None:
        return ArmSums()
    users, *sums = row[_WIDTH * place : _WIDTH * (place + 1)]
    return ArmSums(int(users), *sums)


def _preference(con: duckdb.DuckDBPyConnection, experiment_id: str, kind: str) -> PreferenceSums:
    """Sums over people of (challenger - champion) / (challenger + champion), see `PreferenceSums`."""
    row = con.execute(
        "SELECT count(m), count(*) - count(m), sum(m), sum(m * m), count(*) FILTER (m > 0), "  # noqa: S608 - ours
        "count(*) FILTER (m < 0) FROM ("
        f"SELECT (challenger_{kind} - champion_{kind}) / nullif(challenger_{kind} + champion_{kind}, 0) AS m "
        "FROM experiment_people WHERE experiment_id = ? AND arm = 'interleaved' AND NOT crossed)",
        [experiment_id],
    ).fetchall()[0]
    users, undecided, total, squared, for_challenger, for_champion = row
    return PreferenceSums(users, undecided, total or 0.0, squared or 0.0, for_challenger, for_champion)
