"""Verdicts on tests by arm: from a file that somebody brings, or from the pages that the product itself tagged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import note, print_json, progress, table
from flywheel.commands.shell import Shell

if TYPE_CHECKING:
    from flywheel.gates.logs import Arm, LoggedTest, LogRules
    from flywheel.operations import Operations

# One row an experiment and arm: the sums over people that `ArmSums` takes. A person who met two arms of an experiment
# is in none of them. Feedback belongs to its page by id, whatever the clocks say; what satisfies is what the live
# stages count. Pages that only their model's version tells apart are no experiment where versions followed each other:
# those count that were served beside the latest, in the time that they share.
_SUMS = """
with documents as (
    select query_id, doc_id, bool_or(kind = 'click') as clicked,
           coalesce(bool_or(kind in ('thumbs_up', 'add_to_cart', 'purchase') or dwell_ms >= {satisfied_ms:d}), false)
           and not bool_or(kind = 'thumbs_down') as satisfied
    from feedback group by query_id, doc_id
), done as (
    select query_id, bool_or(clicked) as clicked, bool_or(satisfied) as satisfied from documents group by query_id
), pages as (
    select coalesce(experiment_id, 'all') as experiment, coalesce(arm, model_version) as arm,
           coalesce(user_key, client_key, session_id, query_id) as person,
           coalesce(user_key, client_key, session_id) is null as nobody, ts, query_id,
           coalesce(clicked, false)::int as clicked, coalesce(satisfied, false)::int as satisfied,
           experiment_id is null and queries.arm is null as untagged
    from queries left join done using (query_id)
), versions as (
    select arm, quantile_cont(epoch_ms(ts), 0.01) as first, quantile_cont(epoch_ms(ts), 0.99) as last
    from pages where untagged and arm is not null group by arm
), beside as (
    select v.* from versions v, (select first, last from versions order by first desc, last desc limit 1) newest
    where v.last >= newest.first and v.first <= newest.last
), tagged as (
    select * from pages where arm is not null and arm != 'interleaved' and (not untagged or (
        arm in (select arm from beside)
        and epoch_ms(ts) between (select max(first) from beside) and (select min(last) from beside)))
    qualify row_number() over (partition by experiment, person order by ts, query_id) <= {cap:d}
), begun as (
    select experiment, min(ts) as start from tagged group by experiment
), earlier as (
    select b.experiment, p.person, count(*) as x, sum(p.clicked) as clicked, sum(p.satisfied) as satisfied
    from begun b join pages p on p.ts < b.start group by b.experiment, p.person
), usual as (
    select experiment, sum(clicked) / sum(x) as ctr, sum(satisfied) / sum(x) as satisfied_ctr
    from earlier group by experiment
), people as (
    select experiment, arm, person, bool_and(nobody) as nobody, count(*)::double as x,
           sum(clicked)::double as clicked, sum(satisfied)::double as satisfied,
           count(*) over (partition by experiment, person) as arms
    from tagged group by experiment, arm, person
), adjusted as (
    select p.*, coalesce(e.clicked - u.ctr * e.x, 0) as ctr_before,
           coalesce(e.satisfied - u.satisfied_ctr * e.x, 0) as satisfied_ctr_before,
           quantile_cont(p.x, 0.95) over (partition by experiment) as most
    from people p left join earlier e using (experiment, person) left join usual u using (experiment)
), units as (
    select *, true as calm from adjusted where arms = 1
    union all
    select *, false from adjusted where arms = 1 and x <= most
)
select experiment, arm, calm, count(person) as users, coalesce(sum(x), 0) as pages,
       coalesce(sum(x * x), 0) as pages_squared,
       coalesce(sum(case when nobody then x else 0 end), 0) as anonymous_pages,
       {columns},
       (select count(distinct person) from adjusted a where a.experiment = known.experiment and arms > 1) as crossed
from (select distinct experiment, arm, calm from people, (values (true), (false)) as _(calm)) known
     left join units using (experiment, arm, calm)
group by experiment, arm, calm order by experiment, arm
"""
_COLUMNS = """
       coalesce(sum({value}), 0) as {name}_value, coalesce(sum({value} * {value}), 0) as {name}_value_squared,
       coalesce(sum({value} * x), 0) as {name}_value_pages, coalesce(sum({name}_before), 0) as {name}_before,
       coalesce(sum({name}_before * {name}_before), 0) as {name}_before_squared,
       coalesce(sum({value} * {name}_before), 0) as {name}_value_before,
       coalesce(sum(x * {name}_before), 0) as {name}_pages_before"""
_VALUES = {"ctr": "clicked", "satisfied_ctr": "satisfied"}


def tagged(operations: Operations, *, satisfied_ms: int, cap: int) -> list[LoggedTest]:
    """The tests that the stored pages were tagged with, by `experiment_id` and `arm` (else `model_version`); of one
    person at most `cap` pages count in each."""
    from flywheel.gates.logs import LoggedTest

    columns = ",".join(_COLUMNS.format(name=name, value=value) for name, value in _VALUES.items())
    rows = operations.sql(_SUMS.format(satisfied_ms=satisfied_ms, cap=cap, columns=columns)).to_pylist()
    tests: dict[str, dict[str, dict[bool, dict[str, Any]]]] = {}
    for row in rows:
        tests.setdefault(row["experiment"], {}).setdefault(row["arm"], {})[row["calm"]] = row
    made = []
    for name, arms in tests.items():
        # nobody satisfied anywhere: nothing that would tell it was sent
        told = [
            metric for metric in _VALUES if metric == "ctr" or any(a[True][f"{metric}_value"] for a in arms.values())
        ]
        crossed = max(int(parts[True]["crossed"]) for parts in arms.values())
        made.append(LoggedTest(name, {arm: _arm(parts, told) for arm, parts in arms.items()}, crossed))
    return made


def _arm(parts: Mapping[bool, Mapping[str, Any]], told: Sequence[str]) -> Arm:
    from flywheel.gates.logs import Arm
    from flywheel.stats.ratio import ArmSums

    def sums(row: Mapping[str, Any], metric: str) -> ArmSums:
        own = {key.removeprefix(f"{metric}_"): value for key, value in row.items() if key.startswith(f"{metric}_")}
        return ArmSums.from_dict({key: row[key] for key in ("users", "pages", "pages_squared")} | own)

    metrics, steady = ({metric: sums(parts[calm], metric) for metric in told} for calm in (True, False))
    return Arm(metrics, steady, float(parts[True]["anonymous_pages"]))


def read(file: Path) -> tuple[list[LoggedTest], dict[str, Any]]:
    """The tests of a file, and what was read and skipped."""
    from flywheel.files.readers import ImportCount, rows
    from flywheel.gates.logs import Log

    log, tally = Log(), ImportCount()
    with progress(f"reading {file.name}") as report:
        for row in rows(file, tally):
            reason = log.add(row)
            if reason:
                tally.skip(reason)
            if tally.read % 10_000 == 0:
                report(tally.read, 0)
    missing = log.missing() if log.columns else None
    if missing:
        raise click.ClickException(f"{file}: {missing}")
    return log.tests(), {"read": tally.read, "skipped": tally.reasons.total(), "reasons": dict(tally.reasons)}


def verdicts(shell: Shell, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Judge the tests of `options["arms"]`, or those that the home's pages are tagged with, and print them.

    Raises:
        click.ClickException: nothing to judge, an arm that is not there, or a share that is no number.
    """
    from flywheel.gates.logs import judge, summary

    tests, counts = _tests(shell, options)
    reading = _reading(shell, options)
    judged: list[dict[str, Any]] = []
    refused: list[str] = []
    with progress("judging") as report:
        for test in tests:
            try:
                judged.append(judge(test, reading))
            except ValueError as error:
                refused.append(str(error))
            report(len(judged) + len(refused), len(tests))
    if not judged:
        raise click.ClickException(refused[0])
    counts["refused"] = refused
    answer = {**counts, "alpha": reading.alpha, "verdicts": summary(judged), "experiments": judged}
    if as_json:
        print_json(answer)
    else:
        _show(judged, counts)


def _tests(shell: Shell, options: Mapping[str, Any]) -> tuple[list[LoggedTest], dict[str, Any]]:
    file, name = options["arms"], options["experiment"]
    if file is not None:
        tests, counts = read(file)
    else:
        from flywheel.settings.load import load

        config = load(shell.home, shell.environ)
        with shell.operations() as operations:
            tests = tagged(operations, satisfied_ms=config.signals.satisfied_ms, cap=config.promotion.user_pages)
        counts = {}
    chosen = [test for test in tests if name in (None, "*", test.name)]
    if not chosen:
        there = ", ".join(test.name for test in tests[:20]) or "none"
        skipped = "".join(f"; skipped {count} rows: {reason}" for reason, count in counts.get("reasons", {}).items())
        wanted = "no experiment" if name in (None, "*") else f"no experiment {name}"
        raise click.ClickException(f"nothing to judge: {wanted} with arms; there are: {there}{skipped}")
    return chosen, counts


def _reading(shell: Shell, options: Mapping[str, Any]) -> LogRules:
    from flywheel.gates.judged import policy_of
    from flywheel.gates.logs import LogRules
    from flywheel.settings.load import load

    config = load(shell.home, shell.environ)
    policy = policy_of(config)
    if options["once"]:  # whatever it was planned for, it is over
        policy = replace(policy, looks=(1.0,), max_days=options["days"] or policy.max_days)
    return LogRules(
        policy=replace(policy, live_metric=options["metric"]),
        alpha=options["alpha"],
        control=options["control"],
        champions=tuple(name for name, role in config.signals.arm_names.items() if role == "champion"),
        shares=dict(_share(given) for given in options["share"]),
        days=options["days"],
    )


def _share(given: str) -> tuple[str, float]:
    name, _, share = given.rpartition("=")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not name or not 0 < number < float("inf"):
        raise click.ClickException(f"--share {given!r} is no ARM=NUMBER, such as --share treatment=0.1")
    return name, number


def _show(judged: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> None:
    table(
        ("experiment", "arm", "against", "metric", "effect", "95 %", "sequence", "e-value", "verdict"),
        (_line(test, found) for test in judged for found in test["comparisons"]),
    )
    if len(judged) == 1:
        for found in judged[0]["comparisons"]:
            for reason in found["reasons"]:
                click.echo(f"{found['arm']}: {reason}")
    for warning in sorted(_all(test["warnings"] for test in judged)):
        note(f"note: {warning}")
    for words in counts["refused"][:20]:
        note(f"not judged: {words}")
    for reason, count in (counts.get("reasons") or {}).items():
        note(f"skipped {count} rows: {reason}")


def _line(test: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Any, ...]:
    head = (test["experiment"], found["arm"], test["control"], test["metric"])
    return (
        *head,
        None if found["effect"] is None else f"{found['effect']:+.1%}",
        _range(found["low"], found["high"]),
        _range(*(found["sequence"] or (None, None))),
        found["e_gain"],
        found["verdict"],
    )


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:+.1%} to {high:+.1%}"


def _all(lists: Iterable[Iterable[str]]) -> set[str]:
    return {item for items in lists for item in items}
