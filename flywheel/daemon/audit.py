"""Changes a setting and writes down who changed it, when, and from what to what. A secret's value is never written."""

from __future__ import annotations

import os
from typing import Any

from flywheel.operations import Json
from flywheel.settings.edit import SECRETS, set_value
from flywheel.settings.home import Home
from flywheel.settings.load import Config, to_toml
from flywheel.store.evaluation.decisions import Decision
from flywheel.store.store import Store


def configure(store: Store, home: Home, key: str, value: str, actor: str, now_ms: int) -> tuple[Json, Config]:
    """The change as plain values, and the settings with it; see `flywheel.settings.edit.set_value` for the errors."""
    change = set_value(home.root, os.environ, key, value)
    secret = any(word in key for word in SECRETS)
    before, after = ("(secret)", "(secret)") if secret else (_said(change.before), _said(change.after))
    decision = Decision(
        decision_id=f"config-{len(store.decisions.all()) + 1:06d}",
        kind="config",
        version=None,
        actor=actor,
        ts_ms=now_ms,
        reasons=(f"{key} was changed from {before} to {after}.",),
        evidence={"key": key, "from": before, "to": after},
    )
    store.decisions.decide(decision)
    told = {"key": key, "from": before, "to": after, "live": change.live, "decision_id": decision.decision_id}
    return told, change.config


def _said(value: Any) -> str:
    return "unset" if value is None else to_toml(value)
