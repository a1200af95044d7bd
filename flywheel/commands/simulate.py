"""Simulated people search a collection of yours on this machine; `demo` has one of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from flywheel.commands.display import note, print_json, progress, steps, table
from flywheel.commands.shell import Shell, as_json, examples, pass_shell
from flywheel.settings.choices import Habit

HABITS = get_args(Habit)


@click.command(epilog=examples("flywheel --home trial simulate --beir scifact --sessions 8000 --rounds 4"))
@click.option(
    "--beir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A collection: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
)
@click.option("--split", default="train", show_default=True, help="Whose queries people search with.")
@click.option("--clicks", type=click.Choice(HABITS), default="pbm", show_default=True, help="How people click.")
@click.option("--sessions", type=click.IntRange(1), default=2000, show_default=True, help="Sessions in a round.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Turns of the wheel.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same people.")
@as_json
@pass_shell
def simulate(shell: Shell, /, beir: Path, split: str, as_json: bool, **play: Any) -> None:
    """Rehearse with a collection of your own.

    Its judged queries become people who search and click, before real ones do: a fifth of them, which nobody searches,
    is the gate's golden set, and the split `test` is looked at by the closing table alone. Where no broker answers, one
    in memory is started. The home must be one of its own.
    """
    result = _rehearse(shell, beir, split, **play)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _rehearse(
    shell: Shell, beir: Path, split: str, *, clicks: Any, sessions: int, rounds: int, seed: int
) -> dict[str, Any]:
    from flywheel.files.beir import read_corpus, read_split, splits
    from flywheel.rehearsal import stage as rehearsal
    from flywheel.rehearsal.people import People

    searched, golden = rehearsal.divide(read_split(beir, split), seed)
    documents = rehearsal.documents_of(read_corpus(beir))
    script = rehearsal.Script(searched, golden, People(clicks), sessions=sessions, rounds=rounds, seed=seed)
    with steps() as report, rehearsal.staged(rehearsal.home_of(shell.home), shell.environ, note) as stage:
        rehearsal.furnish(stage, documents, golden, report)
        told = rehearsal.perform(stage, script, note, report)
        known, seen = stage.operations.models(), stage.operations.seen_documents()
    closing = "test" if split != "test" and "test" in splits(beir) else split
    return {"home": str(shell.home), "split": closing, **_scores(shell, beir, closing, known, seen), "rounds": told}


def _scores(
    shell: Shell, beir: Path, split: str, known: list[dict[str, Any]], seen: list[str]
) -> dict[str, dict[str, Any]]:
    from flywheel.commands.scoring import Bench

    with progress("scoring") as report:
        bench = Bench.read(shell, beir, split, seen=seen, judged_only=False, progress=report)
        return {name: bench.evaluate(known, name) for name in ("base", "champion")}


def _show(result: dict[str, Any]) -> None:
    columns = ("round", "pages", "events", "ctr", "messages_per_second", "candidate", "verdict")
    table(columns, [[told[column] for column in columns] for told in result["rounds"]])
    for told in result["rounds"]:
        for reason in told["reasons"]:
            click.echo(f"round {told['round']}: {reason}")
    metrics = [name for name in result["base"] if name != "queries"]
    rows = [
        (name, metric, *(result[name][metric][part] for part in ("all", "seen", "unseen")))
        for metric in metrics
        for name in ("base", "champion")
    ]
    table(("model", result["split"], "all", "seen", "unseen"), rows)
    note(f"everything is in {result['home']}: try `flywheel --home {result['home']} models`, or status, or sql")
