"""A share of the people who keep one model for ever, and what the loop has gained over it since: a watch without end.

It promotes and ends nothing. `flywheel.experiments.lineup` serves them; here their pages become rows of `ab_outcomes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flywheel.experiments import outcomes
from flywheel.experiments.stages import DAY_MS, arms
from flywheel.gates.judged import policy_of
from flywheel.gates.live import decide_live
from flywheel.settings.load import Config, ConfigError, Promotion
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.tallied import ROLES
from flywheel.store.evaluation.tally import Comparison
from flywheel.store.store import Store

STAGE = "frozen"
STATE = "watched"
LEVEL = 0.05
# over years people see more pages than any experiment lasts; who sees most of them all is told by effective users
_CAP = 10_000


@dataclass(frozen=True, slots=True)
class Frozen:
    """Who is kept: `version` for `share` of the people, and as many beside them who always have the champion."""

    version: str
    share: float

    @property
    def experiment_id(self) -> str:
        """Also the salt of the split, so that these people are nobody's in particular elsewhere."""
        return f"{STAGE}-{self.version}"


def frozen_of(settings: Promotion) -> Frozen | None:
    """What the settings ask for; None: nobody is kept."""
    return Frozen(settings.frozen_version, settings.frozen_share) if settings.frozen_share > 0 else None


def check(store: Store, settings: Promotion) -> None:
    """Refuse a version that is not there.

    Raises:
        ConfigError: with what to set instead.
    """
    wanted = frozen_of(settings)
    if wanted is not None and store.models.get(wanted.version) is None:
        known = ", ".join(model.version for model in store.models.all())
        raise ConfigError(
            f"promotion.frozen_version names {wanted.version}, and there is no such model; there are {known}. Set one "
            "of these, or promotion.frozen_share = 0"
        )


class FrozenWatch:
    """Folds in closed pages of both groups and writes what they say; the interval holds whenever one looks."""

    def __init__(self, store: Store, config: Config, now_ms: Callable[[], int]) -> None:
        self._store, self._config, self._now_ms = store, config, now_ms
        self._policy = replace(policy_of(config), looks=(), cuped=False, min_days=0.0, max_days=math.inf)
        self._wanted = frozen_of(config.promotion)
        self._looked: tuple[int, int] | None = None

    def step(self) -> bool:
        """One look, where there is something new since the last; returns whether there was."""
        key = (self._store.feedback.watermark_ms(), self._store.feedback.last_batch())
        if self._wanted is None or key == self._looked:
            return False
        name, until_ms = self._wanted.experiment_id, key[0]
        row = self._row(self._wanted)
        self._store.tally.advance(self._comparison(self._wanted), until_ms)
        found = self._store.tally.sums(name)
        days = max(0.0, (until_ms - (found.first_ms or until_ms)) / DAY_MS)
        evidence = arms(self._policy.live_metric, dict.fromkeys(ROLES, 1.0))(found, days)
        decision = decide_live(evidence, self._policy, LEVEL)
        with self._store.database.write():
            told = {"primary": decision.evidence.get("primary"), "users": dict(evidence.users), "days": days}
            self._store.experiments.update(name, share=self._wanted.share, progress={"look": told})
            self._store.outcomes.record(outcomes.live(row, decision, self._policy, self._now_ms()))
        self._looked = key
        return True

    def _row(self, wanted: Frozen) -> Experiment:
        now_ms = self._now_ms()
        made = Experiment(
            wanted.experiment_id, "champion", wanted.version, STAGE, now_ms, STATE, None, now_ms, share=wanted.share
        )
        self._store.experiments.add(made)
        return self._store.experiments.get(wanted.experiment_id) or made

    def _comparison(self, wanted: Frozen) -> Comparison:
        satisfied_ms = self._config.signals.satisfied_ms
        return Comparison(wanted.experiment_id, wanted.version, "champion", satisfied_ms=satisfied_ms, cap=_CAP)


def report(store: Store, settings: Promotion) -> dict[str, Any] | None:
    """For `status`: the frozen version and what the loop has gained over it, with its 95 % sequence."""
    wanted = frozen_of(settings)
    if wanted is None:
        return None
    row = store.experiments.get(wanted.experiment_id)
    look = {} if row is None else row.progress.get("look", {})
    return {"version": wanted.version, "share": wanted.share, **look}
