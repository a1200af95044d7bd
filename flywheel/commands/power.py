"""Plans a comparison from the feedback so far: how many people or judged queries it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flywheel.commands.shell import Shell
    from flywheel.operations import Operations
    from flywheel.settings.load import Config


def feedback(shell: Shell, model: str) -> list[dict[str, Any]]:
    """What the offline gate found on held-out feedback for a model (alias or version), by part.

    See `flywheel.learning.heldout`.

    Raises:
        click.ClickException: it found nothing, or never judged that model.
    """
    from flywheel.store.published.questions import HELD_OUT

    with shell.operations() as operations:
        named = {str(row["alias"]): str(row["version"]) for row in operations.models() if row["alias"]}
        rows = operations.sql(HELD_OUT).to_pylist()
    version = named.get(model, model)
    parts = [row for row in rows if row["version"] == version]
    if not parts:
        raise click.ClickException(f"no figures of {version} on held-out feedback; the reasons of its decision say why")
    return parts


def plan(operations: Operations, effect: float, config: Config) -> dict[str, Any]:
    """People in each arm, and weeks at last week's numbers, to find a relative `effect` with a power of 80 %.

    `alpha` is what the error budget allows the next challenger; the tests are the same as for the verdict.

    Returns:
        `{effect, power, alpha, people, weekly_people, ctr, satisfied_ctr, interleaving, offline}`; a live metric is
        `{rate, users_per_arm, weeks}`, `interleaving` `{preference, users_at_most}`, and `offline` has for each primary
        metric `{queries_for_a_point, queries, smallest_gain, spread, assumed}`.

    Raises:
        click.ClickException: fewer than two people so far, or none of them ever clicked.
    """
    from flywheel.gates.judged import policy_of
    from flywheel.stats.power import POWER, preferring_users
    from flywheel.store.published.questions import SIGNALS, people_sums

    sums = operations.sql(people_sums(satisfied_ms=config.signals.satisfied_ms)).to_pylist()[0]
    if sums["users"] < 2 or not sums["clicked"]:
        raise click.ClickException("too little feedback to plan with: it needs at least two people, and a click")
    policy, alpha = policy_of(config), _next_alpha(operations, config, sums["now_ms"])
    weekly = int(sums["weekly_users"])
    answer: dict[str, Any] = {"effect": effect, "power": POWER, "alpha": alpha, "people": int(sums["users"])}
    answer["weekly_people"] = weekly
    for metric, column in SIGNALS.items():
        answer[metric] = _need(sums, column, effect, alpha, policy.expected_gain) if sums[column] else None
    preference = policy.expected_preference
    answer["interleaving"] = {
        "preference": preference,
        "users_at_most": preferring_users(preference, alpha=alpha, expected=preference),
    }
    answer["offline"] = _judged(operations, config, alpha)
    return answer


def _next_alpha(operations: Operations, config: Config, now_ms: int) -> float:
    from flywheel.stats.budget import ErrorBudget
    from flywheel.store.evaluation.decisions import SPENT, spent

    history = spent(operations.sql(SPENT).to_pylist())
    return ErrorBudget(alpha=config.promotion.alpha).next_alpha(history, now_ms)


def _judged(operations: Operations, config: Config, alpha: float) -> dict[str, Any]:
    """How many judged queries a gain of one point needs, and the smallest gain that the present ones can show."""
    from flywheel.stats.power import POINT, USUAL_SPREAD, judged_queries, smallest_gain
    from flywheel.store.published.questions import OFFLINE_SPREADS

    metrics = config.promotion.metrics
    measured = {row["metric"]: row for row in operations.sql(OFFLINE_SPREADS).to_pylist()}
    answer = {}
    for metric in metrics:
        spread, queries = USUAL_SPREAD, 0
        if metric in measured:
            spread, queries = float(measured[metric]["spread"]), int(measured[metric]["queries"])
        level = alpha / len(metrics)  # Bonferroni: a gain in one of the metrics is enough
        answer[metric] = {
            "queries_for_a_point": judged_queries(spread, POINT, alpha=level),
            "queries": queries,
            "smallest_gain": smallest_gain(spread, queries, alpha=level) if queries > 1 else None,
            "spread": spread,
            "assumed": metric not in measured,
        }
    return answer


def _need(sums: dict[str, float], column: str, effect: float, alpha: float, expected: float) -> dict[str, float]:
    from flywheel.stats.power import users_per_arm
    from flywheel.stats.ratio import ArmSums

    arm = ArmSums.of_people(sums, column)
    try:
        users = users_per_arm(arm, effect, alpha=alpha, expected=expected)
    except ValueError as error:
        raise click.ClickException(f"too little feedback to plan with: {error}") from error
    return {"rate": arm.ratio, "users_per_arm": users, "weeks": 2 * users / sums["weekly_users"]}
