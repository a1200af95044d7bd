"""`flywheel import`: brings in documents, judged sets, annotations and recorded feedback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import print_json, progress, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

if TYPE_CHECKING:
    from flywheel.files.readers import ImportCount
    from flywheel.operations import JudgedKind, RecordKind

Reader = Callable[[Path, "ImportCount"], Iterator[dict[str, Any]]]
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

    Each tells what it read and stored, and why it skipped the rest.
    """


@import_.command(
    "documents", epilog=examples("flywheel import documents corpus.jsonl", "flywheel import documents shop.csv --json")
)
@click.argument("file", type=_FILE)
@as_json
@pass_shell
def import_documents(shell: Shell, file: Path, as_json: bool) -> None:
    """Documents of a file.

    JSONL, CSV, TSV or Parquet with doc_id (or _id, id), title, text, updated_at, deleted. The latest by updated_at
    wins; without one the import's own time counts.
    """
    from flywheel.files.readers import read_documents

    _records(shell, "documents", file, read_documents, as_json=as_json)


@import_.command("annotations", epilog=examples("flywheel import annotations label-studio.json"))
@click.argument("file", type=_FILE)
@as_json
@pass_shell
def import_annotations(shell: Shell, file: Path, as_json: bool) -> None:
    """Judgements that people made.

    Label Studio's JSON export, or rows of query, doc_id, grade.
    """
    from flywheel.files.readers import read_annotations

    # in one call, because the judgements of a file are one version of one set
    _records(shell, "annotations", file, read_annotations, batch_size=None, as_json=as_json)


@import_.command("feedback", epilog=examples("flywheel import feedback ubi.ndjson.gz --json"))
@click.argument("file", type=_FILE)
@as_json
@pass_shell
def import_feedback(shell: Shell, file: Path, as_json: bool) -> None:
    """Recorded UBI queries and events.

    One JSON object a line; OpenSearch's bulk form is read too.
    """
    from flywheel.files.readers import read_feedback

    _records(shell, "feedback", file, read_feedback, as_json=as_json)


@import_.command(epilog=examples("flywheel import golden judged/ --split test"))
@click.argument("folder", type=_FOLDER)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--name", help="What to call it; else the folder's name.")
@as_json
@pass_shell
def golden(shell: Shell, folder: Path, split: str, name: str | None, as_json: bool) -> None:
    """A judged set that challengers are measured on.

    A BEIR folder. Its queries never enter training."""
    _judged(shell, "golden", folder, split, name, as_json=as_json)


@import_.command(epilog=examples("flywheel import anchors general/ --split test"))
@click.argument("folder", type=_FOLDER)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--name", help="What to call it; else the folder's name.")
@as_json
@pass_shell
def anchors(shell: Shell, folder: Path, split: str, name: str | None, as_json: bool) -> None:
    """A judged set that no challenger may lose on.

    A BEIR folder; the loss that is tolerated is promotion.anchor_margin.
    """
    _judged(shell, "anchors", folder, split, name, as_json=as_json)


def _records(
    shell: Shell, kind: RecordKind, file: Path, read: Reader, *, batch_size: int | None = 1_000, as_json: bool
) -> None:
    from flywheel.files.readers import ImportCount, batches

    tally = ImportCount()
    stored, reasons = 0, Counter[str]()
    more = {name: Counter[str]() for name in ("ignored", "unknown_actions")}
    with shell.operations() as operations, progress(f"importing {kind}") as report:
        for batch in batches(read(file, tally), batch_size):
            answer = operations.import_records(kind, batch)
            stored += int(answer["stored"])
            reasons.update(answer.get("reasons") or {})
            for name, counts in more.items():
                counts.update(answer.get(name) or {})
            report(tally.read, 0)
    told = {name: dict(counts) for name, counts in more.items()} if kind == "feedback" else {}
    _show(tally.read, stored, reasons + tally.reasons, told, as_json=as_json)


def _judged(shell: Shell, kind: JudgedKind, folder: Path, split: str, name: str | None, *, as_json: bool) -> None:
    from flywheel.files.beir import read_split

    judged = read_split(folder, split)
    queries = [{"id": key, "text": text} for key, text in zip(judged.ids, judged.texts, strict=True)]
    judgements = [
        {"query_id": key, "doc_id": doc, "grade": grade}
        for key, grades in zip(judged.ids, judged.judgements, strict=True)
        for doc, grade in grades.items()
    ]
    with shell.operations() as operations, waiting(f"importing {len(queries)} judged queries"):
        answer = operations.import_judged(kind, name or folder.resolve().name, queries, judgements)
    if as_json:
        print_json(answer)
    else:
        _tell(answer)


def _show(read: int, stored: int, reasons: Counter[str], more: dict[str, Any], *, as_json: bool) -> None:
    answer = {"read": read, "stored": stored, "skipped": sum(reasons.values()), "reasons": dict(reasons)} | more
    if as_json:
        print_json(answer)
    else:
        _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    click.echo(f"read {answer['read']}, stored {answer['stored']}, skipped {answer['skipped']}")
    reasons = answer.get("reasons") or {}
    for reason, count in reasons.items() if isinstance(reasons, dict) else ():
        click.echo(f"  {count} × {reason}")
    for field, count in (answer.get("ignored") or {}).items():
        click.echo(f"  left out {count} × {field}")
    for name, count in (answer.get("unknown_actions") or {}).items():
        click.echo(f"  kept and not used {count} × action_name {name}; see signals.action_names")
