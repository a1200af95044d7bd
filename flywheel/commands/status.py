"""Commands that look and change nothing: status, doctor, triggers, models."""

from __future__ import annotations

from typing import Any

import click

from flywheel.commands.display import facts, note, print_json, table, waiting
from flywheel.commands.records.arrivals import show_arrivals
from flywheel.commands.shell import Shell, as_json, examples, pass_shell


@click.command(epilog=examples("flywheel status", "flywheel status --json | python -m json.tool"))
@as_json
@pass_shell
def status(shell: Shell, as_json: bool) -> None:
    """Say what the installation is doing.

    Ingestion, triggers, cycle, champion, experiment, training, broker, uptime.
    """
    with shell.operations() as operations:
        answer = operations.status()
    if as_json:
        print_json(answer)
    else:
        # one line for each threshold; `flywheel triggers` shows more
        checks = {check["name"]: ("FIRED  " if check["fired"] else "") + check["note"] for check in answer["triggers"]}
        facts({**answer, "triggers": checks or None})


@click.command(epilog=examples("flywheel doctor", "flywheel doctor --json", "flywheel doctor --events"))
@click.option("--events", is_flag=True, help="Show instead what came in lately, and what became of it.")
@click.option(
    "--minutes", type=click.FloatRange(1), default=60.0, show_default=True, help="With --events: how far back."
)
@as_json
@pass_shell
def doctor(shell: Shell, events: bool, minutes: float, as_json: bool) -> int:
    """Check what the installation needs.

    Settings, disk, broker, model, database; exit 1 if one is not as it should be. With --events: what came in, by
    sender, kind, field and reason, each with a sample.
    """
    if events:
        return _arrivals(shell, minutes, as_json=as_json)
    with shell.operations() as operations, waiting("checking"):
        checks = operations.doctor()
    if as_json:
        print_json(checks)
    else:
        table(("", "check", "detail"), [("ok" if c["ok"] else "NO", c["check"], c["detail"]) for c in checks])
    return 0 if all(check["ok"] for check in checks) else 1


@click.command(epilog=examples("flywheel triggers", "flywheel triggers --json"))
@as_json
@pass_shell
def triggers(shell: Shell, as_json: bool) -> None:
    """Say why it did or did not retrain.

    Each threshold with its latest value, and what came of it.
    """
    with shell.operations() as operations:
        checks = operations.triggers()
    if as_json:
        print_json(checks)
    elif checks:
        _rows(checks)
    else:
        note("no threshold has been checked yet; the daemon checks every retrain.check_seconds")


@click.command(epilog=examples("flywheel models", "flywheel models --json"))
@as_json
@pass_shell
def models(shell: Shell, as_json: bool) -> None:
    """List the model versions and who serves.

    With --json: version, alias, tier, parent, path, index_id, created_at, metrics.
    """
    with shell.operations() as operations:
        versions = operations.models()
    if as_json:
        print_json(versions)
        return
    columns = ("version", "alias", "tier", "parent", "created_at", "path")
    table(columns, [[model.get(column) for column in columns] for model in versions])
    if not versions:
        note("no model yet: the base model is registered by the first `flywheel run` or `flywheel cycle`")


def _arrivals(shell: Shell, minutes: float, *, as_json: bool) -> int:
    with shell.operations() as operations:
        answer = operations.arrivals(minutes)
    if as_json:
        print_json(answer)
    else:
        show_arrivals(answer)
    return 0


def _rows(records: list[dict[str, Any]]) -> None:
    columns = list(records[0])
    table(columns, [[record.get(column) for column in columns] for record in records])
