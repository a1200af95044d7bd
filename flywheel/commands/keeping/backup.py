"""`flywheel backup` and `flywheel restore`: a whole copy of a home, and back."""

from __future__ import annotations

from pathlib import Path

import click

from flywheel.commands.display import facts, print_json, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell


@click.command(epilog=examples("flywheel backup /backups/2026-03-01", "flywheel backup /backups/today --json"))
@click.argument("folder", type=click.Path(path_type=Path))
@as_json
@pass_shell
def backup(shell: Shell, folder: Path, as_json: bool) -> None:
    """Copy the home into a new folder, while it is in use.

    The copy holds the key of the hashed ids: keep it as you keep the home. With a daemon, FOLDER is on its machine.
    """
    with shell.operations() as operations, waiting("copying"):
        answer = operations.backup(str(folder.expanduser().absolute()))
    if as_json:
        print_json(answer)
    else:
        facts(answer)


@click.command(epilog=examples("flywheel --home search restore /backups/2026-03-01 --yes"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@pass_shell
def restore(shell: Shell, folder: Path, yes: bool, as_json: bool) -> None:
    """Put a backup in the home's place, and erase again whoever was erased since.

    The home as it was stays beside it, as NAME.before-restore, and is yours to delete.
    """
    if not yes:
        click.confirm(f"Put {folder} in the place of {shell.home}?", abort=True, err=True)
    from flywheel.app import restore as put_back

    with waiting("restoring"):
        answer = put_back(shell.home, folder.absolute(), shell.environ)
    if as_json:
        print_json(answer)
    else:
        facts(answer)
