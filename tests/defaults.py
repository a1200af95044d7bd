"""Records that carry settings, as an installation with no settings of its own fills them in, but for what is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flywheel.clicks.model import Options
from flywheel.clicks.pairs import Rules
from flywheel.experiments.shadow_stage import shadow_policy
from flywheel.exploration import plan as exploration
from flywheel.exploration.planner import exploration_policy
from flywheel.gates import offline as promotion
from flywheel.gates.judged import policy_of
from flywheel.gates.shadow import PageRules, ShadowPolicy
from flywheel.learning.snapshot import rules_of
from flywheel.settings.load import Config
from flywheel.stats.budget import ErrorBudget
from flywheel.store.evaluation.tally import Comparison
from trainer.data.recipe import Header
from trainer.data.recipe import ResourceBudget as TrainingBudget

CONFIG = Config()


def policy(**changes: Any) -> promotion.PromotionPolicy:
    """The gates' policy."""
    return replace(policy_of(CONFIG), **changes)


def exploring(**changes: Any) -> exploration.ExplorationPolicy:
    """How much is explored."""
    return replace(exploration_policy(CONFIG.exploration), **changes)


def shadowing(**changes: Any) -> ShadowPolicy:
    """When a shadow speaks."""
    return replace(shadow_policy(CONFIG), **changes)


def reading(**changes: Any) -> PageRules:
    """How a shadow reads pages."""
    return replace(shadow_policy(CONFIG).reading, **changes)


def comparison(experiment_id: str, champion: str, challenger: str, **changes: Any) -> Comparison:
    """Whose pages an experiment counts."""
    settings = {"satisfied_ms": CONFIG.signals.satisfied_ms, "cap": CONFIG.promotion.user_pages}
    return Comparison(experiment_id, champion, challenger, **(settings | changes))


def rules(**changes: Any) -> Rules:
    """How a posterior makes a label."""
    return replace(rules_of(CONFIG.signals), **changes)


def options(**changes: Any) -> Options:
    """How the click model is fitted."""
    return replace(Options(session_context=CONFIG.signals.session_context), **changes)


def errors(**changes: Any) -> ErrorBudget:
    """The error budget of all challengers together."""
    return replace(ErrorBudget(alpha=CONFIG.promotion.alpha), **changes)


def training(**changes: Any) -> TrainingBudget:
    """What a training run may use."""
    return replace(TrainingBudget.of(CONFIG.limits), **changes)


def header(**changes: Any) -> Header:
    """Whom a training run serves."""
    made = Header("r", "v", "p", "", "", "i", seed=CONFIG.trainer.seed, tier="query_tower")
    return replace(made, **changes)
