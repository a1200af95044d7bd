"""What has been tried on which evidence, so that a run that cannot win is not repeated.

It remembers and compares. `flywheel.gates.triggers` says what follows.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flywheel.gates.triggers import Tried
from flywheel.settings.load import Config
from flywheel.store.store import Store
from flywheel.store.training.novelty import Novelty
from flywheel.store.training.runs import TrainingRun

_TRIED = "tried"
_KEPT = 50  # runs that are remembered; a quarter at the usual cooldown has fewer ways
_WAYS = ("signals", "trainer", "promotion")
# what changes neither the pairs nor the model nor the verdict
_IDLE = {"promotion": {"auto", "look_seconds", "queue_days", "holdback", "holdback_days"}}


def way(store: Store, config: Config, tier: str, champion: str) -> str:
    """A name for how a run goes: champion, tier, what is judged, and the settings that lead to pairs, model, verdict.

    Two runs of one way on the same feedback end alike.
    """
    settings = {name: getattr(config, name).model_dump(mode="json", exclude=_IDLE.get(name)) for name in _WAYS}
    settings["trainer"]["tier"] = tier
    sets = sorted(judged.version for judged in store.golden.current())
    told = json.dumps({"champion": champion, "sets": sets, **settings}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def remember(store: Store, config: Config, run: TrainingRun, now_ms: int) -> None:
    """Keep the way of a run that begins. Repeating it changes nothing."""
    ways: dict[str, str] = store.state.get(_TRIED, {})
    ways.pop(run.run_id, None)
    ways[run.run_id] = way(store, config, run.tier, str(run.parent))
    store.state.set(_TRIED, dict(list(ways.items())[-_KEPT:]), now_ms)


def tried(store: Store, config: Config, tier: str, until_ms: int) -> Tried | None:
    """The latest run that went this way and did not change the champion, with the pairs that are new since it.

    A run that failed is none: what broke it may be gone. None: this way is untried.
    """
    champion = store.models.aliases().get("champion")
    ways: dict[str, str] = store.state.get(_TRIED, {})
    if champion is None or not ways:
        return None
    wanted = way(store, config, tier, champion)
    same = [store.runs.get(run_id) for run_id, name in ways.items() if name == wanted]
    ended = [run for run in same if run is not None and run.state in {"done", "refused"}]
    if not ended:
        return None
    last = ended[-1]
    new_pairs = Novelty(store.database).new_pairs(last.until_ms or 0, until_ms)
    return Tried(last.run_id, _outcome(store, last), new_pairs)


def _outcome(store: Store, run: TrainingRun) -> str:
    """How a run ended, in words."""
    rows: list[Any] = [row for row in store.decisions.all() if row.run_id == run.run_id]
    if not rows:
        return f"ended as {run.state}"
    kind, said = str(rows[-1].kind), "; ".join(rows[-1].reasons[:1]).rstrip(".")
    return f"ended as {kind} ({said})" if said else f"ended as {kind}"
