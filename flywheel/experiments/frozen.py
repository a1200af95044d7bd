"""A share of the people keeps one frozen model for ever; this measures what the loop has gained over it.

It promotes and ends nothing. `flywheel.experiments.lineup` serves these people; here their pages become rows of
`ab_outcomes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flywheel.experiments import outcomes
from flywheel.experiments.metric import own_rules
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
# over years people see more pages than in any experiment; the effective number of users shows where few see most
_CAP = 10_000


@dataclass(frozen=True, slots=True)
class Frozen:
    """`share` of the people keeps `version`; as many others always have the champion, for comparison."""

    version: str
    share: float

    @property
    def experiment_id(self) -> str:
        """Also the salt of the split, so that in other experiments these people are spread over all arms."""
        return f"{STAGE}-{self.version}"


def frozen_of(settings: Promotion) -> Frozen | None:
    """What the settings ask for; None: nobody keeps a frozen model."""
    return Frozen(settings.frozen_version, settings.frozen_share) if settings.frozen_share > 0 else None


def check(store: Store, settings: Promotion) -> None:
    """Refuse a version that does not exist.

    Raises:
        ConfigError: with what to set instead.
    """
    wanted = frozen_of(settings)
    if wanted is not None and store.models.get(wanted.version) is None:
        names = ", ".join(model.version for model in store.models.all())
        raise ConfigError(
            f"promotion.frozen_version names {wanted.version}, and there is no such model; there are {names}. Set one "
            "of these, or promotion.frozen_share = 0"
        )


class FrozenWatch:
    """Folds in closed pages of both groups and writes their outcomes; the interval holds at any number of looks."""

    def __init__(self, store: Store, config: Config, now_ms: Callable[[], int]) -> None:
        self._store, self._config, self._now_ms = store, config, now_ms
        self._policy = replace(policy_of(config), looks=(), cuped=False, min_days=0.0, max_days=math.inf)
        self._wanted = frozen_of(config.promotion)
        self._looked: tuple[int, int] | None = None

    def step(self) -> bool:
        """One look, if there is something new since the last one; returns whether there was."""
        key = (self._store.feedback.watermark_ms(), self._store.feedback.last_batch())
        if self._wanted is None or key == self._looked:
            return False
        name, until_ms = self._wanted.experiment_id, key[0]
        row = self._row(self._wanted)
        self._store.tally.advance(self._comparison(self._wanted), until_ms)
        tallied = self._store.tally.sums(name, own_rules(self._config))
        days = max(0.0, (until_ms - (tallied.first_ms or until_ms)) / DAY_MS)
        evidence = arms(dict.fromkeys(ROLES, 1.0))(tallied, days, self._policy.live_metric)
        decision = decide_live(evidence, self._policy, LEVEL)
        with self._store.database.write():
            look = {"primary": decision.evidence.get("primary"), "users": dict(evidence.users), "days": days}
            self._store.experiments.update(name, share=self._wanted.share, progress={"look": look})
            self._store.outcomes.record(outcomes.live(row, decision, self._policy, self._now_ms()))
        self._looked = key
        return True

    def _row(self, wanted: Frozen) -> Experiment:
        now_ms = self._now_ms()
        experiment = Experiment(
            wanted.experiment_id, "champion", wanted.version, STAGE, now_ms, STATE, None, now_ms, share=wanted.share
        )
        self._store.experiments.add(experiment)
        return self._store.experiments.get(wanted.experiment_id) or experiment

    def _comparison(self, wanted: Frozen) -> Comparison:
        satisfied_ms = self._config.signals.satisfied_ms
        own = own_rules(self._config)
        return Comparison(
            wanted.experiment_id, wanted.version, "champion", satisfied_ms=satisfied_ms, cap=_CAP, own=own
        )


def report(store: Store, settings: Promotion) -> dict[str, Any] | None:
    """For `status`: the frozen version and what the loop has gained over it, with its 95 % sequence."""
    wanted = frozen_of(settings)
    if wanted is None:
        return None
    row = store.experiments.get(wanted.experiment_id)
    look = {} if row is None else row.progress.get("look", {})
    return {"version": wanted.version, "share": wanted.share, **look}
