"""Commands that look and change nothing: status, triggers, models, doctor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from flywheel.commands.display import note, print_json, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell
from flywheel.commands.watching import screens
from flywheel.commands.watching.ask import ask

Command = TypeVar("Command", bound=Callable[..., Any])
_EVERY_SECONDS = 2.0


def _watch(command: Command) -> Command:
    """Add `--watch`: the same screen again and again, until Ctrl-C."""
    return click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")(command)


def _show(screen: Callable[[], list[str]], *, watch: bool) -> None:
    pause = threading.Event()
    while True:
        told = "\n".join(screen())
        if watch:
            click.clear()
        click.echo(told)
        if not watch:
            return
        pause.wait(_EVERY_SECONDS)


@click.command(epilog=examples("flywheel status", "flywheel status --watch", "flywheel status --json"))
@_watch
@as_json
@pass_shell
def status(shell: Shell, as_json: bool, watch: bool) -> None:
    """Say what the installation is doing, and what needs a look.

    Ingestion, triggers, cycle, champion, experiment, training, broker, uptime.
    """
    if as_json:
        print_json(ask(shell, "status"))
    else:
        _show(lambda: screens.status(ask(shell, "status"), screens.utc_now()), watch=watch)


@click.command(epilog=examples("flywheel triggers", "flywheel triggers --watch", "flywheel triggers --json"))
@_watch
@as_json
@pass_shell
def triggers(shell: Shell, as_json: bool, watch: bool) -> None:
    """Say why it did or did not retrain.

    Each threshold with its value, when it last fired, and why not now.
    """
    checks = ask(shell, "triggers")
    if as_json:
        print_json(checks)
    elif checks:
        _show(lambda: _triggers(shell), watch=watch)
    else:
        note("no threshold has been checked yet; the daemon checks every retrain.check_seconds")


def _triggers(shell: Shell) -> list[str]:
    from flywheel.settings.home import Home

    home = Home(shell.home)
    running = home.daemon() is not None
    began = datetime.fromtimestamp(home.daemon_file.stat().st_mtime, UTC) if running else None
    return screens.triggers(ask(shell, "triggers"), screens.utc_now(), running=running, began=began)


@click.command(epilog=examples("flywheel models", "flywheel models --json"))
@_watch
@as_json
@pass_shell
def models(shell: Shell, as_json: bool, watch: bool) -> None:
    """List the model versions and who serves.

    With --json: version, alias, tier, parent, path, index_id, created_at, metrics.
    """
    if as_json:
        print_json(ask(shell, "models"))
    else:
        _show(lambda: screens.models(ask(shell, "models"), screens.utc_now()), watch=watch)


@click.command(epilog=examples("flywheel doctor", "flywheel doctor --json", "flywheel doctor --events"))
@click.option("--events", is_flag=True, help="Show instead what came in lately, and what became of it.")
@click.option(
    "--minutes", type=click.FloatRange(1), default=60.0, show_default=True, help="With --events: how far back."
)
@_watch
@as_json
@pass_shell
def doctor(shell: Shell, events: bool, minutes: float, as_json: bool, watch: bool) -> int:
    """Check what the installation needs.

    Settings, disk, broker, model, database; exit 1 if one is not as it should be. With --events: what came in, by
    sender, kind, field and reason, each with a sample.
    """
    if events:
        return _arrivals(shell, minutes, as_json=as_json)
    checks: list[dict[str, Any]] = []

    def look() -> list[str]:
        with shell.operations() as operations, waiting("checking"):
            checks[:] = operations.doctor()
        return screens.doctor(checks)

    if as_json:
        look()
        print_json(checks)
    else:
        _show(look, watch=watch)
    return 0 if all(check["ok"] for check in checks) else 1


def _arrivals(shell: Shell, minutes: float, *, as_json: bool) -> int:
    from flywheel.commands.records.arrivals import show_arrivals

    with shell.operations() as operations:
        answer = operations.arrivals(minutes)
    if as_json:
        print_json(answer)
    else:
        show_arrivals(answer)
    return 0
