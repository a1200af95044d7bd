"""How many people a live comparison needs, from what people did so far: the answer before anybody waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flywheel.operations import Operations

_METRICS = {"ctr": "clicked", "satisfied_ctr": "satisfied"}
# One row: sums over people of pages x and of pages with the signal y, as `ArmSums` takes them.
_SUMS = """
with pages as (
    select coalesce(user_key, client_key, session_id) as person, query_id, ts from queries
), done as (
    select query_id, bool_or(kind = 'click') as clicked,
           bool_or(kind = 'dwell' and dwell_ms >= {satisfied_ms:d}) as satisfied
    from feedback group by query_id
), people as (
    select person, count(*)::double as x, max(ts) as last_seen,
           sum(coalesce(clicked, false)::int)::double as clicked,
           sum(coalesce(satisfied, false)::int)::double as satisfied
    from pages left join done using (query_id) where person is not null group by person
)
select count(*) as users, sum(x) as pages, sum(x * x) as pages_squared,
       sum(clicked) as clicked, sum(clicked * clicked) as clicked_squared, sum(clicked * x) as clicked_pages,
       sum(satisfied) as satisfied, sum(satisfied * satisfied) as satisfied_squared,
       sum(satisfied * x) as satisfied_pages,
       count(*) filter (last_seen > (select max(ts) from pages) - interval 7 days) as weekly_users
from people
"""


def plan(operations: Operations, effect: float, *, satisfied_ms: int, alpha: float) -> dict[str, Any]:
    """People in each arm, and weeks at last week's numbers, to find a relative `effect` with a power of 80 %.

    Returns:
        `{effect, power, alpha, people, weekly_people, ctr, satisfied_ctr}`; a metric is `{rate, users_per_arm, weeks}`.

    Raises:
        click.ClickException: fewer than two people so far, or none of them ever clicked.
    """
    # the number is a setting that was read as one, and SQL's own answer takes no parameters
    sums = operations.sql(_SUMS.format(satisfied_ms=satisfied_ms)).to_pylist()[0]
    if sums["users"] < 2 or not sums["clicked"]:
        raise click.ClickException("too little feedback to plan with: it needs at least two people, and a click")
    weekly = int(sums["weekly_users"])
    answer: dict[str, Any] = {"effect": effect, "power": 0.8, "alpha": alpha, "people": int(sums["users"])}
    answer["weekly_people"] = weekly
    for metric, column in _METRICS.items():
        answer[metric] = _need(sums, column, effect, alpha, weekly) if sums[column] else None
    return answer


def _need(sums: dict[str, float], column: str, effect: float, alpha: float, weekly: int) -> dict[str, float]:
    from flywheel.significance.power import users_per_arm
    from flywheel.significance.ratio import ArmSums

    arm = ArmSums(
        users=int(sums["users"]),
        pages=sums["pages"],
        pages_squared=sums["pages_squared"],
        value=sums[column],
        value_squared=sums[f"{column}_squared"],
        value_pages=sums[f"{column}_pages"],
    )
    try:
        users = users_per_arm(arm, effect, alpha=alpha)
    except ValueError as error:
        raise click.ClickException(f"too little feedback to plan with: {error}") from error
    return {"rate": arm.ratio, "users_per_arm": users, "weeks": 2 * users / weekly}
