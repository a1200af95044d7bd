"""`flywheel evaluate`: scores a model on a judged collection, plans live comparisons, judges tests."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

import click

from flywheel.commands.display import facts, note, print_json, progress, table
from flywheel.commands.shell import Shell, as_json, examples, pass_shell
from flywheel.settings.choices import LiveMetric

METRICS = ("ndcg@10", "recall@10", "mrr@10")
_PARTS = ("all", "seen", "unseen")
_SHOWN, _TOP, _TITLE = 5, 3, 80


@click.command(
    epilog=examples(
        "flywheel evaluate --beir judged/ --split test --model champion",
        "flywheel evaluate --beir judged/ --model base --json",
        "flywheel evaluate --beir judged/ --against base   # where it wins and loses",
        "flywheel evaluate --feedback --model v7   # what people did for queries that never trained it",
        "flywheel evaluate --plan 0.03   # people that a gain of 3 % of CTR needs",
        "flywheel evaluate --arms log.csv --control A --json   # a test that was run elsewhere",
        "flywheel evaluate --arms orders.csv --metric revenue --once   # a metric of the product's own",
        "flywheel evaluate --arms orders.csv --metric wait --lower --guard revenue=0.02",
        "flywheel evaluate --experiment '*'   # what the product tagged its pages with",
        "flywheel evaluate --clicks --judged judged/   # what this home's clicks are worth",
    )
)
@click.option(
    "--beir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A collection: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.",
)
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv.")
@click.option("--model", default="champion", show_default=True, help="champion, challenger, base, or a version.")
@click.option("--against", help="Another model: differences, wins and losses, both rankings side by side.")
@click.option("--plan", type=click.FloatRange(0, 10, min_open=True), help="Instead: people needed for this gain.")
@click.option("--feedback", is_flag=True, help="Instead: the gate's figures on held-out feedback.")
@click.option("--judged-only", is_flag=True, help="Take unjudged documents out of the rankings first.")
@click.option("--arms", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Instead: a log by arm.")
@click.option("--experiment", help="With --arms, or instead: one tagged in the stored pages; * for all.")
@click.option("--control", help="The arm that the others are held against; else by its name, else the first.")
@click.option("--share", multiple=True, metavar="ARM=NUMBER", help="What an arm was meant to get; for each arm.")
@click.option(
    "--metric",
    default="satisfied_ctr",
    show_default=True,
    help=f"{' or '.join(get_args(LiveMetric))}; with --arms also a column of the log that is summed, such as revenue.",
)
@click.option(
    "--winsorise",
    type=click.FloatRange(0.5, 1),
    help="A column's totals by user are cut at this quantile of those above 0, of all arms together; 1: not. Else as "
    "metrics.own says, else 0.99.",
)
@click.option("--lower", is_flag=True, help="Of that column less is better, as of a waiting time.")
@click.option(
    "--guard", multiple=True, metavar="COLUMN=SHARE", help="How much of the control's an arm may lose of a column."
)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True)
@click.option("--days", type=click.FloatRange(0, min_open=True), help="How long it has run; else it is over.")
@click.option("--once", is_flag=True, help="It is looked at this once: a fixed-size test, not one for any time.")
@click.option("--clicks", is_flag=True, help="Instead: what this home's clicks are worth, from its own pages.")
@click.option(
    "--judged",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --clicks: judged queries to hold them against, queries.jsonl and qrels/*.tsv.",
)
@click.option("--grade", type=float, default=1.0, show_default=True, help="With --judged: relevant from this grade on.")
@click.option("--forward", is_flag=True, help="With --clicks: foretell each of the last days from those before it.")
@as_json
@pass_shell
def evaluate(shell: Shell, /, beir: Path | None, plan: float | None, as_json: bool, **options: Any) -> None:
    """Score a model on a judged collection, judge a test by its arms, or ask what clicks are worth.

    nDCG@10, recall@10, MRR@10 over all queries, seen and unseen ones apart. A query is seen when a document
    relevant to it was a positive in any training.

    A log by arm is CSV, TSV, JSONL, JSON or Parquet with arm, clicks, and where known experiment, user, pages (or
    impressions), satisfied and before (what the user did before, for CUPED).

    With --clicks: do people agree, how well do click models foretell people held out, and, with --judged, how often
    clicks are right and which precision can be promised.
    """
    if options["metric"] not in get_args(LiveMetric) and options["arms"] is None:
        raise click.UsageError(
            f"--metric {options['metric']} is none of {', '.join(get_args(LiveMetric))}; a column needs --arms FILE"
        )
    by_arm = options["arms"] is not None or options["experiment"] is not None
    if (beir is not None) + (plan is not None) + by_arm + options["feedback"] + options["clicks"] != 1:
        raise click.UsageError(
            "give --beir DIR to score a model, --feedback for what its gate found on held-out feedback, --plan EFFECT "
            "to plan a live comparison, --arms FILE (or --experiment NAME) to judge one, or --clicks for what this "
            "home's clicks are worth"
        )
    if options["clicks"]:
        from flywheel.commands.clicks.screen import show

        show(shell, options["judged"], options, as_json=as_json)
    elif options["feedback"]:
        from flywheel.commands.power import feedback

        answer = feedback(shell, options["model"])
        if as_json:
            print_json(answer)
        else:
            table(tuple(answer[0]), [tuple(row.values()) for row in answer])
    elif by_arm:
        from flywheel.commands.arms import verdicts

        verdicts(shell, options, as_json=as_json)
    elif beir is None:
        _plan(shell, plan or 0.0, as_json=as_json)
    else:
        _score(shell, beir, options, as_json=as_json)


def _score(shell: Shell, beir: Path, options: Mapping[str, Any], *, as_json: bool) -> None:
    from flywheel.commands.scoring import Bench

    with shell.operations() as operations:
        models, seen = operations.models(), operations.seen_documents()
    with progress("encoding documents") as report:
        bench = Bench.read(
            shell, beir, options["split"], seen=seen, judged_only=options["judged_only"], progress=report
        )
        result = bench.evaluate(models, options["model"])
        if options["against"] is not None:
            result["against"] = bench.compare(models, options["model"], options["against"])
    for tally in (bench.judged.unused, bench.judged.rows):
        for reason, count in tally.reasons.items():
            note(f"not used: {count} × {reason} ({', '.join(tally.places[reason][:3])})")
    if as_json:
        print_json(result)
    else:
        _show(result, options["model"])


def _plan(shell: Shell, effect: float, *, as_json: bool) -> None:
    from flywheel.commands.power import plan
    from flywheel.settings.load import load

    settings = load(shell.home, shell.environ)
    with shell.operations() as operations:
        answer = plan(operations, effect, settings)
    if as_json:
        print_json(answer)
    else:
        facts(answer)


def _show(result: dict[str, Any], model: str) -> None:
    compared = result.pop("against", None)
    if compared is None:
        table(("", *_PARTS), [(name, *(value[part] for part in _PARTS)) for name, value in result.items()])
        return
    columns = ("", "part", "queries", compared["model"], model, "difference", "95 %", "better", "worse", "equal")
    table(columns, [_difference(result, compared, metric, part) for metric in METRICS for part in _PARTS])
    for title, moves in (("wins", compared["wins"]), ("loses", compared["losses"])):
        click.echo(f"{model} {title} most, by {compared['metric']} (● relevant):")
        for move in moves[:_SHOWN]:
            _show_move(move, compared["model"], model)


def _difference(result: dict[str, Any], compared: dict[str, Any], metric: str, part: str) -> tuple[Any, ...]:
    difference = compared["differences"][metric][part]
    effect = f"{difference['effect']:+.4f}" if "effect" in difference else None
    reach = f"{difference['low']:+.4f} to {difference['high']:+.4f}" if "effect" in difference else None
    scores = (compared["scores"][metric][part], result[metric][part])
    shown = (f"{score:.4f}" if score is not None else None for score in scores)
    counts = (difference["better"], difference["worse"], difference["equal"])
    return (metric, part, result["queries"][part], *shown, effect, reach, *counts)


def _show_move(move: dict[str, Any], before: str, after: str) -> None:
    """Both rankings side by side, down to the last relevant hit, and the relevant documents in neither."""
    part = "seen" if move["seen"] else "unseen"
    click.echo(f"\n{move['before']:.3f} → {move['after']:.3f}  {move['text']}  ({part}, query {move['id']})")
    rows = list(zip_longest(move["hits_before"], move["hits_after"]))
    last = max((n for n, pair in enumerate(rows, 1) if any(hit and hit["grade"] for hit in pair)), default=0)
    shown = rows[: max(_TOP, last)]
    table(("rank", before, after), [(n, _title(left), _title(right)) for n, (left, right) in enumerate(shown, 1)])
    for hit in move["missed"]:
        click.echo(f"  in neither: {_title(hit)}")


def _title(hit: dict[str, Any] | None) -> str:
    if hit is None:
        return ""
    title = " ".join(hit["title"].split())
    short = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
    return f"{'●' if hit['grade'] else ' '} {short} [{hit['doc_id']}]"
