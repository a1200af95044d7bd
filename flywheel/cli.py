"""`flywheel`, the command: finds the home, runs one command, and turns failures into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong use. `FLYWHEEL_DEBUG=1` shows the traceback of a failure.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from flywheel.commands.shell import Shell, examples

# command -> its module and name; a module loads only when its command is used, so that start-up stays fast
COMMANDS = {
    "init": "flywheel.commands.run:init",
    "run": "flywheel.commands.run:run",
    "demo": "flywheel.commands.demo:demo",
    "status": "flywheel.commands.watching.look:status",
    "doctor": "flywheel.commands.watching.look:doctor",
    "cycle": "flywheel.commands.cycle:cycle",
    "triggers": "flywheel.commands.watching.look:triggers",
    "train": "flywheel.commands.cycle:train",
    "evaluate": "flywheel.commands.evaluate:evaluate",
    "gate": "flywheel.commands.proving.gate:gate",
    "config": "flywheel.commands.watching.config:config",
    "models": "flywheel.commands.watching.look:models",
    "promote": "flywheel.commands.cycle:promote",
    "rollback": "flywheel.commands.cycle:rollback",
    "pause": "flywheel.commands.cycle:pause",
    "resume": "flywheel.commands.cycle:resume",
    "sql": "flywheel.commands.sql:sql",
    "import": "flywheel.commands.import_:import_",
    "export": "flywheel.commands.export:export",
    "simulate": "flywheel.commands.simulate:simulate",
    "erase-user": "flywheel.commands.erase_user:erase_user",
    "dead-letters": "flywheel.commands.records.letters:dead_letters",
    "backup": "flywheel.commands.keeping.backup:backup",
    "restore": "flywheel.commands.keeping.backup:restore",
}

_OURS = {"flywheel", "consumers", "trainer"}
_ADVICE = {
    errno.EADDRINUSE: "something else listens there: stop it, or set serving.port",
    errno.EACCES: "check the owner and permissions of that path",
    errno.EROFS: "the file system is read-only; name another folder with --home",
    errno.ENOSPC: "the disk is full: free some space, nothing that was stored is lost",
}


class Commands(click.Group):
    """The commands in the order in which people first need them, each loaded when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), attribute)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "flywheel demo                      # watch the whole wheel turn, on this machine",
        "flywheel --home search init        # make an installation",
        "flywheel --home search run         # serve it",
        "flywheel --home search cycle --wait --json",
    ),
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="FLYWHEEL_HOME",
    default=Path("flywheel-home"),
    show_default=True,
    help="The folder that this installation owns (or FLYWHEEL_HOME).",
)
@click.version_option(package_name="flywheel-search")
@click.pass_context
def cli(ctx: click.Context, home: Path) -> None:
    """Keep the embedding model behind a search box learning from the people who use it.

    A command speaks to the daemon that owns the home, or works on the home itself where none runs.
    """
    ctx.obj = Shell(home.expanduser().absolute(), os.environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the only place that prints an error."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' bars would write over ours
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="flywheel", standalone_mode=False
        )
    except click.UsageError as error:
        error.show()
        return 2
    except click.Abort:
        click.echo("flywheel: interrupted", err=True)
        return 1
    except click.ClickException as error:
        click.echo(f"flywheel: {error.format_message()}", err=True)
        return 1
    except BrokenPipeError:
        # the reader left (`flywheel … | head`); nothing more can be written to that pipe, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # the last place to catch it: people read one line, not a traceback
        if os.environ.get("FLYWHEEL_DEBUG"):
            raise
        click.echo(f"flywheel: {explain(error)}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def explain(error: Exception) -> str:
    """One line for people: our own errors name cause and fix, system errors get advice, others their type."""
    if type(error).__module__.partition(".")[0] in _OURS:
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        advice = _ADVICE.get(error.errno or 0)
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}" + (f" ({advice})" if advice else "")
    return f"{type(error).__name__}: {error} (FLYWHEEL_DEBUG=1 shows where)"


if __name__ == "__main__":
    sys.exit(main())
