"""`flywheel import`: brings in documents, judged sets, annotations and recorded feedback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flywheel.commands.shell import Shell, as_json, examples, pass_shell

if TYPE_CHECKING:
    from flywheel.commands.files.carry import Reader
    from flywheel.operations import JudgedKind, RecordKind

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(
    "import",
    epilog=examples(
        "flywheel import documents corpus.parquet",
        "flywheel import golden judged/ --split test",
        "flywheel import anchors general/ --split test",
        "flywheel import annotations labels.json",
        "flywheel import feedback ubi.ndjson.gz",
    ),
)
def import_() -> None:
    """Bring in documents, judged sets or feedback.

    Each tells what it read and stored, and why it skipped the rest, with file and line. The exit code is 1 where
    nothing is stored, now or before.
    """


@import_.command(
    "documents", epilog=examples("flywheel import documents corpus.jsonl", "flywheel import documents shop.csv --json")
)
@click.argument("file", type=_FILE)
@as_json
@pass_shell
def import_documents(shell: Shell, file: Path, as_json: bool) -> int:
    """Documents of a file.

    JSONL, CSV, TSV or Parquet with doc_id (or _id, id), title, text, updated_at, deleted. The latest by updated_at
    wins; without one the import's own time counts.
    """
    from flywheel.files.readers import read_documents

    return _records(shell, "documents", file, read_documents, as_json=as_json)


@import_.command("annotations", epilog=examples("flywheel import annotations label-studio.json"))
@click.argument("file", type=_FILE)
@as_json
@pass_shell
def import_annotations(shell: Shell, file: Path, as_json: bool) -> int:
    """Judgements that people made.

    Label Studio's JSON export, or rows of query, doc_id, grade. Answers to `export labels --sample` also tell how many
    of the positives are right.
    """
    from flywheel.files.readers import read_annotations

    # in one call, because the judgements of a file are one version of one set
    return _records(shell, "annotations", file, read_annotations, batch_size=None, as_json=as_json)


@import_.command(
    "feedback",
    epilog=examples(
        "flywheel import feedback ubi.ndjson.gz --json", "flywheel import feedback events.parquet --format ga4"
    ),
)
@click.argument("file", type=_FILE)
@click.option(
    "--format",
    "dialect",
    type=click.Choice(["ubi", "ga4", "snowplow", "segment"]),
    default="ubi",
    show_default=True,
    help="Who wrote it: UBI, or an export of Google Analytics 4, Snowplow or Segment.",
)
@as_json
@pass_shell
def import_feedback(shell: Shell, file: Path, dialect: str, as_json: bool) -> int:
    """Recorded queries and events.

    JSON lines, tables, OpenSearch's bulk form and dumps. In an export of web analytics, lists, clicks and purchases are
    put to the search before them in their session. A file may be imported again, also after a kill in the middle:
    what is stored is not stored twice, however old it is.
    """
    from flywheel.files import dialects, readers

    read: Reader = readers.read_feedback if dialect == "ubi" else dialects.reader(dialect)
    return _records(shell, "feedback", file, read, batch_size=5_000, as_json=as_json)


@import_.command(epilog=examples("flywheel import golden judged/ --split test"))
@click.argument("folder", type=_FOLDER)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--name", help="What to call it; else the folder's name.")
@as_json
@pass_shell
def golden(shell: Shell, folder: Path, split: str, name: str | None, as_json: bool) -> int:
    """A judged set that challengers are measured on.

    A BEIR folder. Its queries never enter training."""
    return _judged(shell, "golden", folder, split, name, as_json=as_json)


@import_.command(epilog=examples("flywheel import anchors general/ --split test"))
@click.argument("folder", type=_FOLDER)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--name", help="What to call it; else the folder's name.")
@as_json
@pass_shell
def anchors(shell: Shell, folder: Path, split: str, name: str | None, as_json: bool) -> int:
    """A judged set that no challenger may lose on.

    A BEIR folder; the loss that is tolerated is promotion.anchor_margin.
    """
    return _judged(shell, "anchors", folder, split, name, as_json=as_json)


def _records(
    shell: Shell, kind: RecordKind, file: Path, read: Reader, *, batch_size: int | None = 1_000, as_json: bool
) -> int:
    from flywheel.commands.files import carry

    with shell.operations() as operations:
        carrier = carry.bring(operations, kind, file, read, size=batch_size)
    return carry.tell(carry.answer_of(carrier), as_json=as_json)


def _judged(shell: Shell, kind: JudgedKind, folder: Path, split: str, name: str | None, *, as_json: bool) -> int:
    from flywheel.commands.files import carry, judged

    with shell.operations() as operations:
        answer = judged.bring(operations, kind, name or folder.resolve().name, folder, split)
    return carry.tell(answer, as_json=as_json)
