"""Commands that make an installation and serve it: init, run."""

from __future__ import annotations

from pathlib import Path

import click

from flywheel.commands.display import note, print_json
from flywheel.commands.shell import Shell, as_json, examples, pass_shell


@click.command(epilog=examples("flywheel --home search init", "FLYWHEEL_HOME=search flywheel init --json"))
@as_json
@pass_shell
def init(shell: Shell, as_json: bool) -> None:
    """Make the home folder and its settings.

    flywheel.toml explains every setting and has its default; what is there already stays as it is.
    """
    from flywheel.retrieval.encoder import knows
    from flywheel.retrieval.origin import ModelMissing, inspect, names_the_hub, resolve_base_model
    from flywheel.settings.home import Home
    from flywheel.settings.load import FILE_NAME, load

    fresh = Home(shell.home).init()
    base = load(shell.home, shell.environ).trainer.base_model
    missing = None
    try:
        if not names_the_hub(base):  # what the hub has is looked at when it is fetched
            inspect(Path(resolve_base_model(base)), knows)
    except ModelMissing as problem:
        if base != "auto":
            raise
        missing = str(problem)
    settings = shell.home / FILE_NAME
    if as_json:
        print_json({"home": str(shell.home), "settings": str(settings), "created": fresh})
        return
    click.echo(f"{shell.home} is {'ready' if fresh else 'as it was'}; its settings are in {settings}")
    if missing:
        note(missing)
    note(f"next: flywheel --home {shell.home} doctor, then run")


@click.command(
    epilog=examples(
        "flywheel --home search run",
        "FLYWHEEL__KAFKA__BOOTSTRAP=kafka:9092 flywheel run",
        "flywheel --home /tmp/demo run --with-broker   # to try things, without Kafka",
    )
)
@click.option("--with-broker", is_flag=True, help="Start a small broker beside it, in memory: to try things.")
@pass_shell
def run(shell: Shell, with_broker: bool) -> int:
    """Serve the home until SIGTERM or Ctrl-C.

    One process consumes, trains, judges, promotes and answers searches; killed at any point it goes on where it was.
    """
    from flywheel.app import run_daemon

    if not with_broker:
        return run_daemon(shell.home, shell.environ)
    from flywheel.broker.embedded import EmbeddedBroker

    with EmbeddedBroker() as broker:
        note(f"a broker in memory at {broker.bootstrap} ends with this process; what was stored stays in the home")
        return run_daemon(shell.home, {**shell.environ, "FLYWHEEL__KAFKA__BOOTSTRAP": broker.bootstrap})
