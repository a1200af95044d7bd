"""Simulated people on this machine: demo with a corpus of its own, simulate with yours."""

from __future__ import annotations

from pathlib import Path

import click

from flywheel.commands.shell import Shell, as_json, examples, pass_shell

PEOPLE = ("pbm", "cascade", "trust", "random", "poison")


@click.command(epilog=examples("flywheel demo", "flywheel --home /tmp/demo demo --json"))
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same people.")
@as_json
@pass_shell
def demo(shell: Shell, seed: int, as_json: bool) -> int:
    """Watch the wheel turn on this machine.

    Simulated people search Python's documentation, a model learns from their clicks and is judged. Exit 1 if the
    loop did not close. That no gain was significant is said, and nothing is promoted then.
    """
    from flywheel.demo.run import run_demo

    return run_demo(shell.home, shell.environ, seed=seed, as_json=as_json)


@click.command(epilog=examples("flywheel --home trial simulate --beir scifact --sessions 8000 --rounds 4"))
@click.option(
    "--beir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A collection: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
)
@click.option("--split", default="train", show_default=True, help="Whose queries people search with.")
@click.option("--clicks", type=click.Choice(PEOPLE), default="pbm", show_default=True, help="How people click.")
@click.option("--sessions", type=click.IntRange(1), default=2000, show_default=True, help="Sessions in a round.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Turns of the wheel.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same people.")
@as_json
@pass_shell
def simulate(shell: Shell, as_json: bool, **options: object) -> int:
    """Rehearse with a collection of your own.

    Its judged queries become people who search and click, before real ones do.
    """
    raise click.ClickException(f"not built yet: {options}, {shell.home}, {as_json}")
