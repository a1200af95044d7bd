"""What every command needs: its home, access to the operations, and the options that all commands share."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from flywheel.operations import Operations

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Shell:
    """One call of `flywheel`: its home folder, and the environment that overrides its settings."""

    home: Path
    environ: Mapping[str, str]

    @property
    def models(self) -> Path:
        """The folder of model directories, with the progress of a training beside them."""
        from flywheel.settings.home import Home

        return Home(self.home).models

    @contextmanager
    def operations(self) -> Iterator[Operations]:
        """The operations of the daemon that owns this home, or of the home itself if none runs."""
        from flywheel.settings.home import Home

        if not Home(self.home).exists:
            raise click.ClickException(
                f"{self.home} is no Flywheel home; make one with `flywheel --home {self.home} init`, "
                "or name another with --home or FLYWHEEL_HOME"
            )
        with _beside_daemon(self) if Home(self.home).daemon() else _on_home(self) as operations:
            yield operations


@contextmanager
def _beside_daemon(shell: Shell) -> Iterator[Operations]:
    """The daemon answers; nothing is loaded that learning and searching need."""
    from flywheel.client import RemoteOperations
    from flywheel.serving.endpoints.access.tokens import first_of
    from flywheel.settings.home import Home
    from flywheel.settings.load import load

    config, daemon = load(shell.home, shell.environ), Home(shell.home).daemon()
    if daemon is None:  # it ended meanwhile
        with _on_home(shell) as local:
            yield local
        return
    remote = RemoteOperations(str(daemon["url"]), first_of(config.serving, "operate"))
    try:
        yield remote
    finally:
        remote.close()


@contextmanager
def _on_home(shell: Shell) -> Iterator[Operations]:
    from flywheel.app import open_local

    with open_local(shell.home, shell.environ) as local:
        yield local


pass_shell = click.make_pass_decorator(Shell)


def as_json(command: Command) -> Command:
    """Add `--json`: one JSON value, on the last line of standard output."""
    return click.option("as_json", "--json", is_flag=True, help="Print one JSON value for programs.")(command)


def actor() -> str:
    """The user who runs the command, for the audit trail."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"  # the user id of a container may have no name


def examples(*lines: str) -> str:
    """An epilog that click does not wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
