"""Commands that turn the wheel or choose the champion: cycle, train, promote, rollback, pause, resume."""

from __future__ import annotations

from typing import Any, get_args

import click

from flywheel.commands.display import facts, following, note, print_json, waiting
from flywheel.commands.shell import Shell, actor, as_json, examples, pass_shell
from flywheel.settings.choices import TierChoice

_TIERS = click.Choice(get_args(TierChoice))


@click.command(
    epilog=examples(
        "flywheel cycle --wait", "flywheel cycle --wait --tier adapter --json", "flywheel cycle   # just ask the daemon"
    )
)
@click.option("--wait", is_flag=True, help="Come back with the decision; without it, once the daemon has accepted.")
@click.option("--tier", type=_TIERS, help="Train this tier instead of the one that is set.")
@as_json
@pass_shell
def cycle(shell: Shell, wait: bool, tier: str | None, as_json: bool) -> None:
    """Turn the wheel once: learn, judge, promote or not.

    It takes the feedback as it stands, and needs no threshold to ask for it. That nothing was promoted is an
    answer, not a failure.
    """
    sign = following("one turn of the wheel", shell.models) if wait else waiting("asking for a turn")
    with shell.operations() as operations, sign:
        answer = operations.cycle(wait=wait, tier=tier)
    if as_json:
        print_json(answer)
    else:
        _show_turn(answer)


def _show_turn(answer: dict[str, Any]) -> None:
    decision = answer.get("decision") or {}
    names = ("trigger", "training_run", "candidate")
    head: dict[str, Any] = {name: answer[name] for name in names if name in answer}
    facts(head or {name: value for name, value in answer.items() if name != "warning"})
    if answer.get("warning"):
        note(answer["warning"])
    if decision:
        facts({"verdict": decision.get("verdict"), "spent": decision.get("spent")})
        for reason in decision.get("reasons", ()):
            click.echo(f"  because {reason}")


@click.command(epilog=examples("flywheel train", "flywheel train --tier adapter --json"))
@click.option("--tier", type=_TIERS, help="The tier to train; else trainer.tier of the settings.")
@as_json
@pass_shell
def train(shell: Shell, tier: str | None, as_json: bool) -> int:
    """Train a candidate now.

    It tells how the training went; the gate then judges the candidate as in a cycle. With promotion.auto = false
    the candidate stays a candidate until `flywheel promote VERSION`.
    """
    with shell.operations() as operations, following("training", shell.models):
        answer = operations.cycle(wait=True, tier=tier)
    shown = {name: answer.get(name) for name in ("training_run", "candidate")}
    if as_json:
        print_json(shown)
    else:
        facts(shown)
    if not answer.get("candidate"):
        for reason in (answer.get("decision") or {}).get("reasons", ()):
            note(f"no candidate: {reason}")
        return 1
    return 0


@click.command(epilog=examples('flywheel promote v3 --reason "editors prefer it"'))
@click.argument("version")
@click.option("--reason", required=True, help="Why; it stands in the decisions for good.")
@as_json
@pass_shell
def promote(shell: Shell, version: str, reason: str, as_json: bool) -> None:
    """Make VERSION the champion by hand.

    The gate is not asked; the decision records who did it and why."""
    with shell.operations() as operations, waiting(f"promoting {version}"):
        _show(operations.promote(version=version, reason=reason, actor=actor()), as_json=as_json)


@click.command(epilog=examples("flywheel rollback", 'flywheel rollback --reason "complaints since Monday"'))
@click.option("--reason", default="by hand", show_default=True, help="Why; it stands in the decisions for good.")
@as_json
@pass_shell
def rollback(shell: Shell, reason: str, as_json: bool) -> None:
    """Let the former champion serve again, at once."""
    with shell.operations() as operations, waiting("rolling back"):
        _show(operations.rollback(reason=reason, actor=actor()), as_json=as_json)


@click.command(epilog=examples("flywheel pause", "flywheel resume"))
@as_json
@pass_shell
def pause(shell: Shell, as_json: bool) -> None:
    """Stop retraining and promoting by itself.

    Ingestion and search go on; a pause survives a restart.
    """
    with shell.operations() as operations:
        _show(operations.pause(), as_json=as_json)


@click.command(epilog=examples("flywheel resume"))
@as_json
@pass_shell
def resume(shell: Shell, as_json: bool) -> None:
    """Let the wheel turn by itself again."""
    with shell.operations() as operations:
        _show(operations.resume(), as_json=as_json)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        facts(answer)
