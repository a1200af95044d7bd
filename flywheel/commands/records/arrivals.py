"""What `flywheel doctor --events` prints: the last hour's records for whoever connects a product."""

from __future__ import annotations

from typing import Any

import click

from flywheel.commands.display import note, table

_COLUMNS = ("outcome", "application", "kind", "action_name", "field", "reason", "records", "last_at", "sample")


def show_arrivals(answer: dict[str, Any]) -> None:
    """What was stored, left out and set aside, then the action names that mean nothing to us."""
    rows = [[("" if row.get(column) is None else row[column]) for column in _COLUMNS] for row in answer["arrivals"]]
    if not rows:
        note(
            f"nothing came in during the last {answer['since_minutes']:g} minutes; does the product send to our topics?"
        )
        return
    table(_COLUMNS, rows)
    show_unknown(answer["unknown_actions"], answer["suggestion"])


def show_unknown(unknown: dict[str, int], suggestion: str | None) -> None:
    """Action names of the kind `other`, and what to write into the settings."""
    if unknown:
        named = ", ".join(f"{name} ({count})" for name, count in unknown.items())
        click.echo(f"action names that are kept and not used: {named}")
    if suggestion:
        click.echo("if this is what they mean, write it into [signals] of flywheel.toml:")
        click.echo(f"  {suggestion}")
