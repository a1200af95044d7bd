"""`flywheel gate`: is a model that was trained elsewhere better? For pipelines: no home, no daemon, no broker."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import note, print_json, progress, table
from flywheel.commands.shell import as_json, examples

if TYPE_CHECKING:
    from flywheel.commands.proving.rankers import Loaded
    from flywheel.files.verdicts.report import VerdictReport
    from flywheel.gates.decision import PromotionPolicy
    from flywheel.gates.proving.collections import Proof

_COLLECTION = click.Path(exists=True, path_type=Path)
_TARGET = click.Path(dir_okay=False, path_type=Path)
ONCE = 0.05
"""The usual level of a test that is made once; `promotion.alpha` is a budget for many."""


@click.command(
    epilog=examples(
        "flywheel gate --model new-model/ --against live-model/ --beir judged/",
        "flywheel gate --model new-model/ --against base --beir judged/ --beir general/ --beside bm25",
        "flywheel gate --model new-model/ --against base --beir judged/ --anchor general/ --junit gate.xml",
        "flywheel gate --model new-model/ --against bm25 --beir judged/ --json",
    )
)
@click.option("--model", required=True, metavar="DIR", help="What is judged: a SentenceTransformer folder.")
@click.option("--against", required=True, metavar="DIR|base|bm25", help="What it has to beat.")
@click.option("--beir", multiple=True, required=True, type=_COLLECTION, help="A judged collection, folder or zip.")
@click.option("--anchor", multiple=True, type=_COLLECTION, help="Another: nothing may be lost here, no gain counts.")
@click.option("--split", default="test", show_default=True, help="Which qrels/SPLIT.tsv, of all of them.")
@click.option("--beside", multiple=True, metavar="DIR|base|bm25", help="Show this one's figures in the table too.")
@click.option("--metric", multiple=True, help="recall@K, ndcg@K or mrr@K; one gain is enough.  [default: as a home's]")
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=ONCE, show_default=True)
@click.option("--min-effect", type=click.FloatRange(0, 1), help="Smallest gain that passes.  [default: as a home's]")
@click.option("--margin", type=click.FloatRange(0, 1), help="Loss that is tolerated.  [default: as a home's]")
@click.option("--min-queries", type=click.IntRange(2), help="Judged queries at least.  [default: as a home's]")
@click.option(
    "--trained",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ids of documents that training touched, one a line: nothing may be lost on the others.",
)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Keep document vectors here.")
@click.option("--junit", type=_TARGET, help="Write the verdict as JUnit XML.")
@click.option("--markdown", type=_TARGET, help="Write it as Markdown.")
@click.option("--sarif", type=_TARGET, help="Write it as SARIF 2.1.0.")
@as_json
def gate(as_json: bool, **options: Any) -> int:
    """Say whether a model is better than another on judged collections, with the statistics of a home's offline gate.

    Exit codes: 0 it is better and lost nothing, 1 it is worse or not better, 3 undecided, 2 it could not be judged.

    A gain counts over the queries of all --beir collections together. Of several, none may be lost beyond the margin.
    `base` is the model of the demo's wheel, `bm25` ranks by words alone.
    """
    started = time.monotonic()
    policy, names = _policy(options), {"model": options["model"], "against": options["against"]}
    beside = tuple(dict.fromkeys(name for name in options["beside"] if name not in names.values()))
    with refused():
        proof, notes = _judge(options, policy, beside)
    for line in notes:
        note(line)
    from flywheel.commands.proving import told

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    found = told.report(proof, names, beside, seconds=time.monotonic() - started, now=now)
    with refused():
        _write(found, options)
    if as_json:
        print_json(told.as_json(proof, names, policy, options["alpha"]))
    else:
        table(found.columns, found.rows)
        click.echo(found.headline)
        for reason in found.reasons:
            click.echo(f"  {reason}")
    return told.CODES[found.outcome]


@contextmanager
def refused() -> Iterator[None]:
    """Whatever fails ends with exit code 2: a pipeline must not take it for a model that is worse."""
    try:
        yield
    except click.ClickException as error:
        raise click.UsageError(error.format_message()) from error
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    except Exception as error:
        raise click.UsageError(f"{type(error).__name__}: {error}") from error


def _policy(options: Mapping[str, Any]) -> PromotionPolicy:
    """A home's policy at its defaults, with what the caller says instead."""
    from flywheel.gates.judged import policy_of
    from flywheel.settings.load import Config
    from flywheel.stats.metrics import parse_metric

    policy = policy_of(Config())
    metrics = tuple(dict.fromkeys(options["metric"])) or policy.metrics
    for name in metrics:
        try:
            parse_metric(name)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--metric") from error
    margin = policy.margin if options["margin"] is None else options["margin"]
    min_effect = policy.min_effect if options["min_effect"] is None else options["min_effect"]
    min_queries = options["min_queries"] or policy.min_queries
    return dataclasses.replace(
        policy,
        metrics=metrics,
        margin=margin,
        anchor_margin=margin,
        min_effect=min_effect,
        min_queries=min_queries,
        min_unseen=min(policy.min_unseen, min_queries),
    )


def _judge(options: Mapping[str, Any], policy: PromotionPolicy, beside: Sequence[str]) -> tuple[Proof, list[str]]:
    from flywheel.commands.proving.rankers import Rankers
    from flywheel.gates.proving.collections import RankedCollection, prove

    model, against = options["model"], options["against"]
    trained = options["trained"].read_text("utf-8").split("\n") if options["trained"] else ()
    with progress("encoding documents") as report:
        rankers = Rankers(options["cache"], report)
        for name in (model, against, *beside):
            rankers.load(name)
        loaded = _collections(options)
        ranked = [
            RankedCollection(one.judged, {name: rankers.rank(name, one) for name in (model, against, *beside)})
            for one in loaded
        ]
    known = frozenset(line.strip() for line in trained if line.strip())
    proof = prove(ranked, model, against, policy=policy, alpha=options["alpha"], trained=known)
    return proof, [f"{one.judged.name}: {line}" for one in loaded for line in one.notes]


def _collections(options: Mapping[str, Any]) -> list[Loaded]:
    """All collections, each under the name of its folder, numbered where two have the same."""
    from flywheel.commands.proving.rankers import load_collection

    names: Counter[str] = Counter()
    loaded = []
    for kind in ("beir", "anchor"):
        for path in options[kind]:
            stem = path.resolve().name.removesuffix(".zip")
            names[stem] += 1
            name = stem if names[stem] == 1 else f"{stem} ({names[stem]})"
            loaded.append(
                load_collection(path, options["split"], kind="golden" if kind == "beir" else "anchor", name=name)
            )
    return loaded


def _write(found: VerdictReport, options: Mapping[str, Any]) -> None:
    from flywheel.files.verdicts.junit import junit
    from flywheel.files.verdicts.markdown import markdown
    from flywheel.files.verdicts.sarif import sarif

    for name, form in (("junit", junit), ("markdown", markdown)):
        if options[name] is not None:
            options[name].write_text(form(found), "utf-8")
    if options["sarif"] is not None:
        options["sarif"].write_text(json.dumps(sarif(found), indent=2) + "\n", "utf-8")
