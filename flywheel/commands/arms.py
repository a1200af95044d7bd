"""Judges tests by arm: from a file, or from the stored pages that the product tagged itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flywheel.commands.display import note, print_json, progress, table
from flywheel.commands.shell import Shell
from flywheel.settings.choices import LiveMetric

if TYPE_CHECKING:
    from flywheel.gates.logged.arms import LogRules
    from flywheel.gates.logged.logs import Arm, LoggedTest
    from flywheel.operations import Operations


def tagged(operations: Operations, *, satisfied_ms: int, cap: int) -> list[LoggedTest]:
    """The tests that stored pages are tagged with, by `experiment_id` and `arm` (else `model_version`). At most `cap`
    pages of one person count in each test."""
    from flywheel.gates.logged.logs import LoggedTest
    from flywheel.store.published.questions import SIGNALS, arm_notes, arm_sums

    rows = operations.sql(arm_sums(satisfied_ms=satisfied_ms, cap=cap)).to_pylist()
    told = operations.sql(arm_notes(satisfied_ms=satisfied_ms, cap=cap)).to_pylist()
    tests: dict[str, dict[str, dict[bool, dict[str, Any]]]] = {}
    for row in rows:
        tests.setdefault(row["experiment"], {}).setdefault(row["arm"], {})[row["calm"]] = row
    logged = []
    for name, arms in tests.items():
        # no page satisfied in any arm: the product sends no signal of satisfaction
        signals = [
            metric for metric in SIGNALS if metric == "ctr" or any(a[True][f"{metric}_value"] for a in arms.values())
        ]
        crossed = max(int(parts[True]["crossed"]) for parts in arms.values())
        share = max(float(parts[True]["crossed_pages"]) for parts in arms.values())
        notes = tuple(words for row in told if row["experiment"] == name for words in _notes(row))
        sums = {arm: _arm(parts, signals) for arm, parts in arms.items()}
        logged.append(LoggedTest(name, sums, crossed, share, notes))
    return logged


def _notes(row: Mapping[str, Any]) -> Iterator[str]:
    """What was merged into an arm, or left out of the test."""
    from flywheel.gates.logged.logs import APART, merged, stray

    if row["stray"]:
        yield stray(row["name"], row["people"])
    elif row["apart"]:
        yield APART.format(arm=row["name"])
    else:
        spelt = merged(row["name"], row["spellings"])
        if spelt:
            yield spelt
        if row["outside"]:
            yield (
                f"{row['outside']} pages of arm {row['name']} are left out: of a time when not all arms ran, or more "
                "than one person may count for"
            )


def _arm(parts: Mapping[bool, Mapping[str, Any]], told: Sequence[str]) -> Arm:
    from flywheel.gates.logged.logs import Arm
    from flywheel.stats.ratio import ArmSums

    def sums(row: Mapping[str, Any], metric: str) -> ArmSums:
        own = {key.removeprefix(f"{metric}_"): value for key, value in row.items() if key.startswith(f"{metric}_")}
        return ArmSums.from_dict({key: row[key] for key in ("users", "pages", "pages_squared")} | own)

    metrics, steady = ({metric: sums(parts[calm], metric) for metric in told} for calm in (True, False))
    return Arm(metrics, steady, float(parts[True]["anonymous_pages"]))


def read(
    file: Path, keep: Sequence[str] = (), *, own: Sequence[str] = (), winsorise: float = 1.0
) -> tuple[list[LoggedTest], dict[str, Any]]:
    """The tests of a file, and how many rows were read and skipped. Arms in `keep` are arms however small.

    `own` are columns that are metrics of the product's own; see `flywheel.gates.logged.logs.Log`.
    """
    from flywheel.files.readers import ImportCount, rows
    from flywheel.gates.logged.logs import Log

    log, tally = Log(own, winsorise=winsorise), ImportCount()
    with progress(f"reading {file.name}") as report:
        for row in rows(file, tally):
            reason = log.add(row)
            if reason:
                tally.skip(reason)
            if tally.read % 10_000 == 0:
                report(tally.read, 0)
    missing = log.missing() if log.columns else None
    absent = [name for name in own if log.columns and name.casefold() not in log.columns]
    if absent:
        raise click.ClickException(f"{file}: no column {absent[0]}; there are: {', '.join(sorted(log.columns))}")
    if missing:
        raise click.ClickException(f"{file}: {missing}")
    return log.tests(keep), {"read": tally.read, "skipped": tally.reasons.total(), "reasons": dict(tally.reasons)}


def verdicts(shell: Shell, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Judge the tests of `options["arms"]`, or those that the home's pages are tagged with, and print them.

    Raises:
        click.ClickException: nothing to judge, an unknown arm, or a share that is no number.
    """
    from flywheel.gates.logged.arms import judge, summary

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
    from flywheel.settings.load import OwnMetric, load

    file, name = options["arms"], options["experiment"]
    config = load(shell.home, shell.environ)
    if file is not None:
        metric = options["metric"]
        own = [] if metric in get_args(LiveMetric) else [metric]
        own += [column for column in _guards(options) if column not in {*own, *get_args(LiveMetric)}]
        kept = [_share(given)[0] for given in options["share"]]
        cut = options["winsorise"] or config.metrics.own.get(metric, OwnMetric(event="*")).winsorise
        tests, counts = read(file, kept, own=own, winsorise=cut)
    else:
        with shell.operations() as operations:
            tests = tagged(operations, satisfied_ms=config.signals.satisfied_ms, cap=config.promotion.user_pages)
        counts = {}
    chosen = [test for test in tests if name in (None, "*", test.name)]
    if not chosen:
        existing = ", ".join(test.name for test in tests[:20]) or "none"
        skipped = "".join(f"; skipped {count} rows: {reason}" for reason, count in counts.get("reasons", {}).items())
        wanted = "no experiment" if name in (None, "*") else f"no experiment {name}"
        raise click.ClickException(f"nothing to judge: {wanted} with arms; there are: {existing}{skipped}")
    return chosen, counts


def _reading(shell: Shell, options: Mapping[str, Any]) -> LogRules:
    from flywheel.gates.decision import Guardrail
    from flywheel.gates.judged import policy_of
    from flywheel.gates.logged.arms import LogRules
    from flywheel.settings.load import load

    config = load(shell.home, shell.environ)
    metric = _named(options["metric"])
    lower = {_named(name) for name, own in config.metrics.own.items() if own.better == "lower"}
    lower |= {metric} if options["lower"] else set()
    guards = [Guardrail(_named(name), share, 0.0, falls=_named(name) not in lower)
              for name, share in _guards(options).items()]  # fmt: skip
    policy = replace(policy_of(config), lower=frozenset(lower), guardrails=tuple(guards), live_metric=metric)
    if options["once"]:  # the test is over: one look, at its end
        policy = replace(policy, max_days=options["days"] or policy.max_days)
    return LogRules(
        once=options["once"],
        policy=policy,
        alpha=options["alpha"],
        control=options["control"],
        champions=tuple(name for name, role in config.signals.arm_names.items() if role == "champion"),
        shares=dict(_share(given) for given in options["share"]),
        days=options["days"],
    )


def _guards(options: Mapping[str, Any]) -> dict[str, float]:
    """Columns that an arm may lose at most a share of."""
    found = dict(_share(given, "--guard", "COLUMN", "revenue=0.02") for given in options["guard"])
    too_much = [name for name, share in found.items() if share >= 1]
    if too_much:
        raise click.ClickException(f"--guard {too_much[0]}: a share below 1, such as --guard {too_much[0]}=0.02")
    return found


def _named(metric: str) -> str:
    """A column's name as the log keeps it."""
    return metric if metric in get_args(LiveMetric) else metric.strip().casefold()


def _share(given: str, option: str = "--share", form: str = "ARM", example: str = "treatment=0.1") -> tuple[str, float]:
    name, _, share = given.rpartition("=")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not name or not 0 < number < float("inf"):
        raise click.ClickException(f"{option} {given!r} is no {form}=NUMBER, such as {option} {example}")
    return name, number


def _show(judged: Sequence[Mapping[str, Any]], counts: Mapping[str, Any]) -> None:
    """A sentence for each verdict, then the figures."""
    for test in judged:
        for comparison in test["comparisons"]:
            click.echo(f"{test['experiment']}: {comparison['headline']}")
        if not test["comparisons"]:
            click.echo(f"{test['experiment']}: Nothing can be told: {test['control']} has no arm beside it.")
            for words in test["warnings"]:
                click.echo(f"  {words}")
    if not any(test["comparisons"] for test in judged):
        return
    table(
        ("experiment", "arm", "against", "metric", "effect", "interval", "95 % at any look", "p", "verdict"),
        (_line(test, comparison) for test in judged for comparison in test["comparisons"]),
    )
    if len(judged) == 1:
        for comparison in judged[0]["comparisons"]:
            for reason in comparison["reasons"]:
                click.echo(f"{comparison['arm']}: {reason}")
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
        f"{_range(*found['interval'])} ({found['confidence']:.3g} %)" if found["interval"] else None,
        _range(*(found["sequence"] or (None, None))),
        found["p_value"],
        "void" if found["void"] else found["verdict"],
    )


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:+.1%} to {high:+.1%}"


def _all(lists: Iterable[Iterable[str]]) -> set[str]:
    return {item for items in lists for item in items}
