"""How good a model is, scored in this process on a judged collection, and how many people a live answer needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flywheel.commands.display import facts, note, print_json, progress, table
from flywheel.commands.shell import Shell, as_json, examples, pass_shell


@click.command(
    epilog=examples(
        "flywheel evaluate --beir judged/ --split test --model champion",
        "flywheel evaluate --beir judged/ --model base --json",
        "flywheel evaluate --beir judged/ --against base   # where it wins and loses",
        "flywheel evaluate --plan 0.03   # people that a gain of 3 % of CTR needs",
    )
)
@click.option(
    "--beir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A collection: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--model", default="champion", show_default=True, help="champion, challenger, base, or a version.")
@click.option("--against", help="Another model: show the queries that moved most, both rankings side by side.")
@click.option("--plan", type=click.FloatRange(0, 10, min_open=True), help="Instead: people needed for this gain.")
@click.option("--judged-only", is_flag=True, help="Take unjudged documents out of the rankings first.")
@as_json
@pass_shell
def evaluate(
    shell: Shell,
    beir: Path | None,
    split: str,
    model: str,
    against: str | None,
    plan: float | None,
    judged_only: bool,
    as_json: bool,
) -> None:
    """Score a model on a judged collection.

    nDCG@10, recall@10, MRR@10 over all queries, seen and unseen ones apart. A query is seen when a document
    relevant to it was a positive in any training.
    """
    if (beir is None) == (plan is None):
        raise click.UsageError("give --beir DIR to score a model, or --plan EFFECT to plan a live comparison")
    if beir is None:
        _plan(shell, plan or 0.0, as_json=as_json)
        return
    from flywheel.commands.scoring import Bench

    with shell.operations() as operations:
        known, seen = operations.models(), operations.seen_documents()
    with progress("encoding documents") as report:
        bench = Bench.read(shell, beir, split, seen=seen, judged_only=judged_only, progress=report)
        result = bench.evaluate(known, model)
        if against is not None:
            result["against"] = bench.compare(known, model, against)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _plan(shell: Shell, effect: float, *, as_json: bool) -> None:
    from flywheel.commands.planning import plan
    from flywheel.config import load

    settings = load(shell.home, shell.environ)
    with shell.operations() as operations:
        answer = plan(operations, effect, satisfied_ms=settings.signals.satisfied_ms, alpha=settings.promotion.alpha)
    if as_json:
        print_json(answer)
    else:
        facts(answer)


def _show(result: dict[str, Any]) -> None:
    parts = ("all", "seen", "unseen")
    compared = result.pop("against", None)
    table(("", *parts), [(name, *(value[part] for part in parts)) for name, value in result.items()])
    if compared is None:
        return
    note(f"against {compared['model']}:")
    table(("", *parts), [(name, *(compared["scores"][name][part] for part in parts)) for name in compared["scores"]])
    for query in compared["moved"]:
        click.echo(f"{query['before']:.3f} → {query['after']:.3f}  {query['text']}")
        rankings = zip(query["ranked_before"][:5], query["ranked_after"][:5], strict=False)
        table(("rank", compared["model"], "this one"), [(n, *pair) for n, pair in enumerate(rankings, 1)])
