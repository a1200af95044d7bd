"""`flywheel export`: writes a table or labelling tasks to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from flywheel.commands.display import print_json, waiting
from flywheel.commands.handover import hand_over_model
from flywheel.commands.shell import Shell, as_json, examples, pass_shell
from flywheel.settings.choices import ModelForm

FORMS = get_args(ModelForm)
TABLES = (
    "queries", "impressions", "feedback", "documents", "pairs", "models", "training_runs", "experiments",
    "experiment_daily", "ab_outcomes", "decisions", "trigger_checks", "dead_letters",
)  # fmt: skip


@click.command(
    epilog=examples(
        "flywheel export pairs pairs.parquet",
        "flywheel export decisions decisions.jsonl",
        "flywheel export labels labels.json --limit 200   # tasks for Label Studio",
        "flywheel export labels sample.csv --sample --limit 300",
        "flywheel export model champion/ --format tei   # for another server",
    )
)
@click.argument("what", type=click.Choice([*TABLES, "labels", "model"]))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="This many rows at most; with --sample about as many.")
@click.option("--sample", is_flag=True, help="labels: a probability sample of the positives, which verifies them.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --sample: another sample.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(ModelForm)),
    help="model: the server it is for.  [default: the library]",
)
@click.option("--version", help="model: this version.  [default: the champion]")
@click.option("--int8", is_flag=True, help="model: weights of 8 bits, for onnx and triton.")
@click.option("--licence", help="model: what its card says.  [default: what the base model's card says]")
@as_json
@pass_shell
def export(shell: Shell, /, what: str, file: Path, limit: int | None, **options: Any) -> None:
    """Write a table, labelling tasks or a model to FILE.

    `labels` are the pairs most worth a person's judgement, or with --sample those that tell how many of the positives
    are right. The ending chooses the form: .parquet, .csv, .jsonl; labels are Label Studio tasks (.json) or rows.
    `model` writes a folder that sentence-transformers, ONNX Runtime, OpenVINO, Triton or TEI takes as it is.
    """
    if what == "model":
        hand_over_model(shell, file, options)
        return
    if file.is_dir():
        raise click.UsageError(f"{file} is a folder; name a file, such as {file / what}.parquet")
    from flywheel.files.writers import label_tasks, write
    from flywheel.store.published.labelling import TASKS
    from flywheel.store.published.questions import exported
    from flywheel.store.published.sampling import sample

    if options["sample"] and what != "labels":
        raise click.UsageError(f"--sample draws labels; write `flywheel export labels {file} --sample`")
    with shell.operations() as operations, waiting(f"exporting {what}"):
        drawn = sample(limit or TASKS, options["seed"]) if options["sample"] else exported(what, limit)
        answer = operations.sql(drawn)
    if options["sample"] and not answer.num_rows:
        raise click.ClickException("there is nothing to verify: no run has positives from clicks yet")
    written = write(label_tasks(answer) if what == "labels" and file.suffix == ".json" else answer, file)
    result: dict[str, Any] = {"what": what, "file": str(file), "rows": written}
    if options["as_json"]:
        print_json(result)
    else:
        click.echo(f"{written} rows of {what} in {file}")
