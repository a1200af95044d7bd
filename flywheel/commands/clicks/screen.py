"""`flywheel evaluate --clicks` for people: one screen, or one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from flywheel.commands.clicks import answer, home
from flywheel.commands.display import note, print_json, progress, table
from flywheel.commands.shell import Shell

_NAMES = {"ndcg": "nDCG@10 of what was shown", "within_queries": "AUC within queries", "across_queries": "AUC across"}


def show(shell: Shell, folder: Path | None, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Read, measure, print. `folder` is a judged set in BEIR's layout.

    Raises:
        click.ClickException: too few pages, or judgements about nothing that was shown.
    """
    from flywheel.settings.load import load

    config, rng = load(shell.home, shell.environ), np.random.default_rng(0)
    with shell.operations() as operations:
        kept = home.read(operations, config.limits.result_rows)
    found: dict[str, Any] = {"read": answer.summary(kept)}
    grades = home.grades(kept.log, folder, options["grade"]) if folder is not None else None
    with progress("measuring") as report:
        steps = 2 + (grades is not None) + options["forward"]
        report(0, steps)
        found["agreement"] = answer.agreeing(kept.log, rng)
        found["preferences"] = answer.preferred(kept)
        report(1, steps)
        found["held_out"] = answer.likelihoods(kept.log, rng)
        report(2, steps)
        if grades is not None:
            asked = config.signals.expected_precision
            found["judged"] = {
                "unlisted_is_irrelevant": grades[1],
                **answer.judged(kept, grades[0], options["grade"], asked, rng),
            }
        if options["forward"]:
            found["forward"] = answer.days_ahead(kept.log)
        report(steps, steps)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    read, test = found["read"], found["agreement"]
    click.echo(
        f"{read['pages']:,} pages of {read['people']:,} people, {read['queries']:,} queries; {read['clicks']:,} clicks "
        f"on {read['clicked_pairs']:,} of {read['pairs']:,} pairs"
    )
    if read["pages"] < read["pages_in_all"]:
        note(f"note: these are the newest of {read['pages_in_all']:,} pages; limits.result_rows says how many are read")
    click.echo(f"\nDo people agree? z {test['z']:.1f}, p {test['p']:.3g}: {test['meaning']}.")
    click.echo(f"{test['clicks']:,} clicks of {test['queries']:,} queries lie where documents changed places.")
    preferences = found["preferences"]
    if preferences["pages"]:
        click.echo(f"{preferences['preferences']:,} preferences of neighbours: {preferences['meaning']}.")
    _print_held_out(found["held_out"])
    if "forward" in found:
        _print_forward(found["forward"])
    if "judged" in found:
        _print_judged(found["judged"])


def _print_held_out(held_out: Mapping[str, Any]) -> None:
    click.echo("\nPeople held out, foretold by the others:")
    if "inconclusive" in held_out:
        click.echo(f"  {held_out['inconclusive']}")
        return
    models = held_out["models"]
    reach = max(len([value for value in row["perplexity"] if value is not None]) for row in models.values())
    ranks = [rank for rank in (1, 2, 3, 5, 10) if rank <= reach]
    columns = ("model", "log likelihood a page", "ours minus it", "95 %", *(f"perplexity at {rank}" for rank in ranks))
    table(columns, [_held_out_row(name, row, ranks) for name, row in models.items()])


def _held_out_row(name: str, row: Mapping[str, Any], ranks: list[int]) -> tuple[Any, ...]:
    apart = f"{row['ours_minus_it']:+.4f}", f"{row['low']:+.4f} to {row['high']:+.4f}"
    told = [row["perplexity"][rank - 1] for rank in ranks]
    perplexity = [None if value is None else f"{value:.3f}" for value in told]
    return (name, f"{row['log_likelihood']:.4f}", *(("", "") if name == "attraction" else apart), *perplexity)


def _print_forward(forward: Mapping[str, Any]) -> None:
    if "inconclusive" in forward:
        click.echo(f"\nThe next day: {forward['inconclusive']}")
        return
    click.echo(f"\nDays foretold: {forward['days']}, each by all pages before it (log likelihood a page):")
    parts = {part: forward[part] for part in ("head", "middle", "tail")}
    names = list(parts["head"]["models"])
    rows = [
        (part, row["pages"], row["queries"], *(_rounded(row["models"][name], 4) for name in names))
        for part, row in parts.items()
    ]
    table(("queries asked", "pages", "queries", *names), rows)


def _print_judged(judged: Mapping[str, Any]) -> None:
    click.echo(f"\n{judged['pairs']:,} judged pairs of {judged['queries']:,} queries were shown:")
    if judged["unlisted_is_irrelevant"]:
        click.echo("(the set lists relevant documents alone, so what it does not list counts as irrelevant)")
    rows: list[tuple[Any, ...]] = [("all of them", judged["pairs"], f"{judged['relevant']:.1%}", "", "")]
    for name, title in (("clicked", "clicked"), ("positives", "positives of the last run")):
        part = judged[name]
        right = None if part["right"] is None else f"{part['right']:.1%}"
        rows.append((title, part["pairs"], right, _cells(part["by_rank"]), _cells(part["by_impressions"])))
    table(("", "pairs", "relevant", "by mean rank, from", "by impressions, from"), rows)
    for name, title in (("by_posterior", "the last run's posterior"), ("by_calibrated_chance", "calibrated chance")):
        if judged[name]:
            click.echo(f"{title}, from: {_cells(judged[name])}")
    _print_orders(judged)
    click.echo(f"Promise: {judged['promise']['meaning']}.")


def _print_orders(judged: Mapping[str, Any]) -> None:
    """Orders of what was shown. AUC is in points above or below CTR too."""
    alike = {name: judged["auc"][name] for name in ("within_queries", "across_queries")}
    rows = []
    for name, value in judged["ndcg"].items():
        row: list[Any] = [name, _rounded(value, 3)]
        for part in alike.values():
            told = part["scores"].get(name)
            row.append(told and f"{told['value']:.3f} ({told['low']:+.3f} to {told['high']:+.3f})")
        rows.append(row)
    heads = (f"{_NAMES[part]}, {alike[part]['couples']:,} couples (minus CTR)" for part in alike)
    table(("ordered by", _NAMES["ndcg"], *heads), rows)


def _cells(rows: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['from']:g}: {row['right']:.0%} of {row['pairs']}" for row in rows)


def _rounded(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
