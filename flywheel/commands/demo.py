"""`flywheel demo`: the whole wheel on a corpus that every machine has, with questions that were judged by hand."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import note, print_json, steps, table, waiting
from flywheel.commands.shell import Shell, as_json, examples, pass_shell

if TYPE_CHECKING:
    from flywheel.commands.scoring import Bench
    from flywheel.files.beir import Judged
    from flywheel.rehearsal.questions import Questions, Split

METRICS = ("recall@10", "mrr@10", "ndcg@10")
_IMPROVED = 3


@click.command(epilog=examples("flywheel demo", "flywheel --home /tmp/demo demo --json"))
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Turns of the wheel.")
@click.option("--sessions", type=click.IntRange(1), default=1500, show_default=True, help="Sessions in a round.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same people.")
@as_json
@pass_shell
def demo(shell: Shell, rounds: int, sessions: int, seed: int, as_json: bool) -> int:
    """Watch the wheel turn on this machine.

    Simulated people search Python's documentation, a model learns from their clicks and is judged. Exit 1 if the loop
    did not close. That no gain was significant is said, and nothing is promoted then.
    """
    result = _play(shell, rounds=rounds, sessions=sessions, seed=seed)
    if as_json:
        print_json(result)
    else:
        _show(result)
    return 0 if result["closed"] else 1


def _play(shell: Shell, *, rounds: int, sessions: int, seed: int) -> dict[str, Any]:
    started = time.monotonic()
    note("1. the corpus: the documentation of this Python's standard library, by introspection")
    with waiting("   it is read"):
        from flywheel.rehearsal import corpus, questions
        from flywheel.rehearsal import stage as rehearsal
        from flywheel.rehearsal.people import People

        built = corpus.build()
    asked = questions.load(built.ids)
    note(f"   {len(built.documents)} documents, {len(asked.asked)} judged questions ({len(asked.skipped)} left out: "
         f"this Python lacks their answers)")  # fmt: skip
    script = rehearsal.Script(
        _judged(asked, "train"), _judged(asked, "golden"), People("pbm"), sessions=sessions, rounds=rounds, seed=seed
    )
    note("2. a broker, a daemon on the home, the documents and the gate's golden questions")
    documents = [{"doc_id": d.doc_id, "title": d.title, "text": d.text} for d in built.documents]
    with ExitStack() as stack:
        with waiting("   they start, and the model is loaded"):
            stage = stack.enter_context(rehearsal.staged(rehearsal.home_of(shell.home), shell.environ, note))
        report = stack.enter_context(steps())
        note(f"   the page {stage.url()} shows it too, while this runs")
        rehearsal.furnish(stage, documents, script.golden, report)
        note("3. people search and click; after each round the wheel turns: evidence, training, judgement")
        turns = rehearsal.perform(stage, script, note, report)
        models, seen = stage.operations.models(), stage.operations.seen_documents()
    note("4. the held-out questions, which neither training nor the gate has seen")
    contents = {document.doc_id: document.content for document in built.documents}
    with waiting("   every model answers them"):
        bench = _bench(shell, contents, _judged(asked, "test"), seen, lambda done, total: None)  # noqa: ARG005
        result = _results(bench, models, turns)
    return {"home": str(shell.home), "documents": len(documents), "questions": len(asked.asked),
            "skipped": len(asked.skipped), **result, "seconds": round(time.monotonic() - started, 1)}  # fmt: skip


def _judged(asked: Questions, split: Split) -> Judged:
    from flywheel.files.beir import Judged

    chosen = asked.of(split)
    return Judged(
        tuple(question.id for question in chosen),
        tuple(question.text for question in chosen),
        tuple({doc_id: float(grade) for doc_id, grade in question.answers.items()} for question in chosen),
    )


def _bench(shell: Shell, contents: dict[str, str], judged: Judged, seen: list[str], bar: Any) -> Bench:
    from flywheel.commands.scoring import Bench
    from flywheel.settings.home import Home
    from flywheel.settings.load import load

    settings = load(shell.home, shell.environ).trainer
    return Bench(settings, Home(shell.home).indexes, contents, judged, frozenset(seen), False, bar)


def _results(bench: Bench, known: list[dict[str, Any]], told: list[dict[str, Any]]) -> dict[str, Any]:
    candidates = [turn["candidate"] for turn in told if turn["candidate"]]
    names = ["base", *dict.fromkeys(candidates), "champion"]
    compared = bench.compare(known, "champion", "base")
    improved = [change for change in compared["moved"] if change["after"] > change["before"]][:_IMPROVED]
    promoted = sum(turn["verdict"] == "promote" for turn in told)
    return {
        "models": {name: bench.evaluate(known, name) for name in names},
        "rounds": told,
        "promotions": promoted,
        "gained": compared["differences"]["recall@10"]["all"],
        "improved": improved,
        "closed": bool(candidates) and all(turn["verdict"] and turn["reasons"] for turn in told),
    }


def _show(result: dict[str, Any]) -> None:
    parts = ("all", "seen", "unseen")
    names = list(result["models"])
    rows = [
        (metric, part, *(_figure(result["models"][name][metric][part]) for name in names))
        for metric in METRICS
        for part in parts
    ]
    table(("held-out questions", "part", *names), rows)
    told = ("round", "pages", "events", "messages_per_second", "candidate", "verdict")
    table(
        [name.replace("messages_per_second", "messages/s") for name in told],
        [[turn[name] for name in told] for turn in result["rounds"]],
    )
    for change in result["improved"]:
        click.echo(f"“{change['text']}”")
        click.echo(f"  before: {', '.join(change['ranked_before'][:3])}")
        click.echo(f"  now:    {', '.join(change['ranked_after'][:3])}")
    home = result["home"]
    click.echo(_in_short(result))
    click.echo(f"It took {result['seconds']:.0f} s, and everything is in {home}. Try:")
    for call in _next_steps(result):
        click.echo(f"  {_flywheel()} --home {home} {call}")


def _in_short(result: dict[str, Any]) -> str:
    """What was gained, how sure that is, and what now."""
    if not result["promotions"]:
        return (
            "No gain was significant, so nothing was promoted: the champion stays as it was; more rounds or sessions "
            "(--rounds, --sessions) may show a gain."
        )
    before, now = (result["models"][name]["recall@10"]["all"] for name in ("base", "champion"))
    return (
        f"The champion finds {now:.1%} of the answers to questions that nobody searched, {before:.1%} before"
        f"{_how_sure(result['gained'])}; the gate found a significant gain on questions of its own, so the new model "
        "serves, and `rollback` takes it back."
    )


def _how_sure(gained: dict[str, Any]) -> str:
    if "low" not in gained:
        return ""
    return f" (with 95 % confidence {gained['low']:+.1%} to {gained['high']:+.1%})"


def _next_steps(result: dict[str, Any]) -> list[str]:
    """Calls that work as they stand here: a rollback needs somewhere to go, and the demo's broker has ended."""
    back = ["rollback"] if result["promotions"] else []
    return ["models", "status", 'sql "select kind, version, reasons from decisions"', *back, "run --with-broker"]


def _flywheel() -> str:
    """How to call this command from the reader's shell: by name where that finds it."""
    return "flywheel" if shutil.which("flywheel") else str(Path(sys.executable).parent / "flywheel")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
