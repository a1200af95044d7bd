"""`flywheel config`: what holds, whether it can be used, and a change that is validated and written down."""

from __future__ import annotations

import click

from flywheel.commands.display import note, print_json, text
from flywheel.commands.shell import Shell, actor, as_json, examples, pass_shell
from flywheel.commands.watching.layout import lines

_WRONG_USE = "give SECTION.KEY=VALUE, such as retrain.min_new_pairs=400"


@click.group(
    epilog=examples(
        "flywheel config show retrain",
        "flywheel config check",
        "flywheel config set retrain.min_new_pairs=400",
    )
)
def config() -> None:
    """Show, check or change settings."""


@config.command(epilog=examples("flywheel config show", "flywheel config show retrain --json"))
@click.argument("section", required=False)
@as_json
@pass_shell
def show(shell: Shell, section: str | None, as_json: bool) -> None:
    """Every setting as it holds, with where it comes from; secrets are not shown."""
    from flywheel.settings.edit import shown
    from flywheel.settings.load import sections

    if section is not None and section not in dict(sections()):
        raise click.UsageError(f"there is no section {section}; there are {', '.join(dict(sections()))}")
    rows = [row for row in shown(shell.home, shell.environ) if section in (None, row["key"].partition(".")[0])]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        origin = "" if row["from"] == "default" else f" (from the {row['from']})"
        click.echo(f"{row['key']} = {text(row['value'])}{origin}")
        for line in lines("", str(row["meaning"]), indent=4):
            click.echo(line)


@config.command(epilog=examples("flywheel config check"))
@as_json
@pass_shell
def check(shell: Shell, as_json: bool) -> int:
    """Say whether the settings can be used; exit 1 if not."""
    from flywheel.settings.load import ConfigError, load

    problem = None
    try:
        load(shell.home, shell.environ)
    except ConfigError as error:
        problem = str(error)
    if as_json:
        print_json({"ok": problem is None, "problem": problem})
    else:
        click.echo(problem or "The settings can be used.")
    return 0 if problem is None else 1


@config.command("set", epilog=examples("flywheel config set retrain.min_new_pairs=400"))
@click.argument("assignment")
@as_json
@pass_shell
def set_(shell: Shell, assignment: str, as_json: bool) -> None:
    """Change one setting: SECTION.KEY=VALUE.

    The file keeps its comments. Who changed what, when, and from what to what stands in `decisions`. A running daemon
    goes by new thresholds of [retrain] from its next check on; other settings take effect with its next start.
    """
    key, equals, value = assignment.partition("=")
    if not equals or "." not in key:
        raise click.UsageError(_WRONG_USE)
    with shell.operations() as operations:
        changed = operations.configure(key.strip(), value.strip(), actor())
    if as_json:
        print_json(changed)
        return
    click.echo(f"{changed['key']} was {changed['from']} and is {changed['to']}.")
    if not changed["live"]:
        note("It takes effect when the daemon starts again.")
