"""`flywheel erase-user`: forgets a person."""

from __future__ import annotations

import click

from flywheel.commands.display import facts, print_json, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell


@click.command(
    "erase-user", epilog=examples("flywheel erase-user user-4711", "flywheel erase-user user-4711 --yes --json")
)
@click.argument("user_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@pass_shell
def erase_user(shell: Shell, user_id: str, yes: bool, as_json: bool) -> None:
    """Forget a person, here and in what analysts read.

    USER_ID is the id as your product sends it (user_id or client_id); Flywheel keeps only keyed hashes of it.
    """
    if not yes:
        click.confirm(f"Erase everything of {user_id}? This cannot be undone", abort=True, err=True)
    with shell.operations() as operations, waiting("erasing"):
        answer = operations.erase_user(user_id)
    if as_json:
        print_json(answer)
    else:
        facts(answer)
