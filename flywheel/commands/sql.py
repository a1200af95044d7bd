"""`flywheel sql`: asks one read-only question."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import as_text, note, print_json, table
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_ROWS = 200


@click.command(
    epilog=examples(
        'flywheel sql "select version, alias from models"',
        'flywheel sql "select * from ab_outcomes" --json',
        'flywheel sql --csv "select * from decisions" > decisions.csv',
        "flywheel sql - < question.sql",
    )
)
@click.argument("statement")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
@as_json
@pass_shell
def sql(shell: Shell, statement: str, as_csv: bool, as_json: bool) -> None:
    """Ask one read-only question in SQL.

    DuckDB's dialect; `-` reads the question from standard input. It answers while the daemon runs, and can change
    nothing.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    from flywheel.files.answers import plain

    question = sys.stdin.read() if statement == "-" else statement
    with shell.operations() as operations:
        answer = plain(operations.sql(question))
    if as_json:
        print_json(answer.to_pylist())
    elif as_csv:
        _print_csv(answer)
    else:
        rows = answer.slice(0, _SHOWN_ROWS).to_pylist()
        table(answer.column_names, [list(row.values()) for row in rows])
        if answer.num_rows > _SHOWN_ROWS:
            note(f"{_SHOWN_ROWS} of {answer.num_rows} rows; --csv or --json gives all")


def _print_csv(answer: pa.Table) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.column_names)
    for batch in answer.to_batches():
        writer.writerows([_cell(value) for value in row.values()] for row in batch.to_pylist())


def _cell(value: Any) -> Any:
    """A cell of CSV, as over HTTP: lists and objects are JSON, bytes are hexadecimal."""
    match value:
        case list() | dict():
            return as_text(value)
        case bytes():
            return value.hex()
        case _:
            return value
