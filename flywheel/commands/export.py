"""`flywheel export`: writes a table or labelling tasks to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flywheel.commands.display import print_json, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

TABLES = (
    "queries", "impressions", "feedback", "documents", "pairs", "models", "training_runs", "experiments",
    "experiment_daily", "ab_outcomes", "decisions", "trigger_checks", "dead_letters",
)  # fmt: skip


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
    from flywheel.files.writers import label_tasks, write
    from flywheel.store.published.questions import exported

    with shell.operations() as operations, waiting(f"exporting {what}"):
        answer = operations.sql(exported(what, limit))
    written = write(label_tasks(answer) if what == "labels" else answer, file)
    result: dict[str, Any] = {"what": what, "file": str(file), "rows": written}
    if as_json:
        print_json(result)
    else:
        click.echo(f"{written} rows of {what} in {file}")
