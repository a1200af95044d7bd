"""`flywheel dead-letters`: the messages that could not be read, by reason, one by one, and read again after a mend."""

from __future__ import annotations

import click

from flywheel.commands.display import note, print_json, table, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

_SAMPLE = 60


@click.group(
    "dead-letters",
    epilog=examples(
        "flywheel dead-letters list",
        "flywheel dead-letters show ubi.events/0/4711",
        'flywheel dead-letters replay --reason "looks like seconds"',
    ),
)
def dead_letters() -> None:
    """Look at messages that could not be read, and read them again.

    Each keeps its bytes, where it came from, and why it could not be read.
    """


@dead_letters.command("list", epilog=examples("flywheel dead-letters list", "flywheel dead-letters list --json"))
@click.option("--reason", help="Only those whose reason contains this.")
@click.option("--field", help="Only those of this field.")
@click.option("--topic", help="Only those of this topic.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Groups at most.")
@as_json
@pass_shell
def list_letters(
    shell: Shell, reason: str | None, field: str | None, topic: str | None, limit: int, as_json: bool
) -> None:
    """Those that wait, by topic, field and reason.

    The most frequent first, each with the place of the latest and the beginning of its bytes.
    """
    with shell.operations() as operations:
        answer = operations.dead_letters(reason, field, topic, limit)
    if as_json:
        print_json(answer)
    elif answer["groups"]:
        columns = ("letters", "topic", "field", "reason", "latest", "sample")
        table(columns, [[_shown(group, column) for column in columns] for group in answer["groups"]])
    else:
        note("no dead letter waits")


@dead_letters.command(epilog=examples("flywheel dead-letters show ubi.events/0/4711"))
@click.argument("place")
@as_json
@pass_shell
def show(shell: Shell, place: str, as_json: bool) -> int:
    """One message, whole.

    PLACE is topic/partition/offset, as `list` shows it.
    """
    topic, _, rest = place.rpartition("/")
    topic, _, partition = topic.rpartition("/")
    if not (topic and partition.isascii() and partition.isdigit() and rest.isascii() and rest.isdigit()):
        raise click.UsageError(f"{place} is no place; write topic/partition/offset, for example ubi.events/0/4711")
    with shell.operations() as operations:
        letters = operations.dead_letter(topic, int(partition), int(rest))
    if not letters:
        raise click.ClickException(f"there is no dead letter at {place}; `flywheel dead-letters list` shows places")
    if as_json:
        print_json(letters)
        return 0
    for letter in letters:
        for name, value in letter.items():
            if name != "payload" and value is not None:
                note(f"{name}: {value}")
        click.echo(letter["payload"])
    return 0


@dead_letters.command(
    epilog=examples("flywheel dead-letters replay", 'flywheel dead-letters replay --reason "looks like seconds"')
)
@click.option("--reason", help="Only those whose reason contains this.")
@click.option("--field", help="Only those of this field.")
@click.option("--topic", help="Only those of this topic.")
@as_json
@pass_shell
def replay(shell: Shell, reason: str | None, field: str | None, topic: str | None, as_json: bool) -> None:
    """Read them again, after the settings or Flywheel were mended.

    Each is stored once, however often this is called. One that still cannot be read stays.
    """
    with shell.operations() as operations, waiting("reading dead letters again"):
        answer = operations.replay_dead_letters(reason, field, topic)
    if as_json:
        print_json(answer)
        return
    click.echo(f"stored {answer['stored']}, stored before {answer['repeated']}, still unreadable {answer['still']}")
    for why, count in answer["reasons"].items():
        click.echo(f"  {count} × {why}")


def _shown(group: dict[str, object], column: str) -> object:
    value = group[column]
    if column == "latest" and isinstance(value, dict):
        return "{topic}/{partition}/{offset}".format(**value)
    if column == "sample":
        return " ".join(str(value).split())[:_SAMPLE]
    return value
