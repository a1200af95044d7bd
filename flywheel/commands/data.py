"""Feedback as data: sql, export, erase-user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import facts, note, print_json, table, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (
    "queries", "impressions", "feedback", "documents", "pairs", "models", "training_runs", "experiments",
    "experiment_daily", "ab_outcomes", "decisions", "trigger_checks", "dead_letters",
)  # fmt: skip
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
    question = sys.stdin.read() if statement == "-" else statement
    with shell.operations() as operations:
        answer = operations.sql(question)
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
        writer.writerows(row.values() for row in batch.to_pylist())


@click.command(
    epilog=examples(
        "flywheel export pairs pairs.parquet",
        "flywheel export decisions decisions.jsonl",
        "flywheel export labels labels.json --limit 200   # tasks for Label Studio",
    )
)
@click.argument("what", type=click.Choice([*TABLES, "labels"]))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="This many rows at most.")
@as_json
@pass_shell
def export(shell: Shell, what: str, file: Path, limit: int | None, as_json: bool) -> None:
    """Write a table or labelling tasks to FILE.

    `labels` are the pairs most worth a person's judgement. The ending chooses the form: .parquet, .csv, .jsonl;
    labels are Label Studio tasks (.json).
    """
    from flywheel.files.writers import label_tasks, statement, write

    with shell.operations() as operations, waiting(f"exporting {what}"):
        answer = operations.sql(statement(what, limit))
    written = write(label_tasks(answer) if what == "labels" else answer, file)
    result: dict[str, Any] = {"what": what, "file": str(file), "rows": written}
    if as_json:
        print_json(result)
    else:
        click.echo(f"{written} rows of {what} in {file}")


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
