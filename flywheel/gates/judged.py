"""Ranks the judged queries with champion and challenger, and lets `flywheel.gates.offline` decide on the scores.

It neither trains nor promotes. Clicks on the champion's own pages serve as a guard alone (`flywheel.learning.heldout`):
they can hold a challenger back, and never bring one forward.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.events import normalise_query
from flywheel.gates.decision import GUARDRAILS, GateDecision, Guardrail, PromotionPolicy
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.gates.scores import HeldOutScores
from flywheel.settings.load import Config
from flywheel.stats.metrics import parse_metric

Ranker = Callable[[Sequence[str]], list[list[str]]]
# what a ranker returns a query: a metric with a larger cut-off sees no more
DEPTH = 100


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Judged queries, golden or anchor (`kind`): `judgements[i]` maps doc_id to grade for `queries[i]`."""

    name: str
    version: str
    kind: str
    queries: tuple[str, ...]
    judgements: tuple[Mapping[str, float], ...]

    def __len__(self) -> int:
        return len(self.queries)


def seen_mask(judged: JudgedSet, trained: Collection[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """True where some relevant document of the query was a positive in any training: shape (queries,)."""
    positives = trained if isinstance(trained, (set, frozenset)) else set(trained)
    return np.array(
        [any(grade > 0 and doc in positives for doc, grade in graded.items()) for graded in judged.judgements],
        dtype=bool,
    )


def judge(
    champion: Ranker,
    challenger: Ranker,
    sets: Sequence[JudgedSet],
    *,
    trained: Collection[str],
    policy: PromotionPolicy,
    alpha: float,
    base: Ranker | None = None,
    feedback: HeldOutScores | None = None,
) -> GateDecision:
    """Score both rankers on every golden and anchor set and decide at error rate `alpha`.

    With `base`, the challenger is compared with the base model too on every anchor set: losses that are each within
    the margin cannot add up over promotions. `feedback` comes from `flywheel.learning.heldout`.
    """
    golden = [judged for judged in sets if judged.kind == "golden"]
    scores = [_scores(champion, challenger, judged, policy.metrics) for judged in golden]
    metrics = {
        name: (
            np.concatenate([pairs[name][0] for pairs in scores]) if scores else np.empty(0),
            np.concatenate([pairs[name][1] for pairs in scores]) if scores else np.empty(0),
        )
        for name in policy.metrics
    }
    seen = np.concatenate([seen_mask(judged, trained) for judged in golden]) if golden else np.empty(0, dtype=bool)
    anchored = [judged for judged in sets if judged.kind == "anchor"]
    anchors = {judged.name: _scores(champion, challenger, judged, policy.metrics) for judged in anchored}
    if base is not None:
        anchors |= {
            f"{judged.name} since base": _scores(base, challenger, judged, policy.metrics) for judged in anchored
        }
    asked = [normalise_query(text) for judged in golden for text in judged.queries]
    # a query that stands in two golden sets moves in both: one group, not two votes
    groups = np.unique(asked, return_inverse=True)[1] if asked else np.empty(0, dtype=np.int64)
    evidence = OfflineEvidence(metrics=metrics, seen=seen, groups=groups, anchors=anchors, feedback=feedback)
    return decide_offline(evidence, policy, alpha)


def _scores(
    champion: Ranker, challenger: Ranker, judged: JudgedSet, metrics: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    ours, theirs = champion(judged.queries), challenger(judged.queries)
    parsed = {name: parse_metric(name) for name in metrics}
    return {
        name: (metric(ours, judged.judgements), metric(theirs, judged.judgements)) for name, metric in parsed.items()
    }


def policy_of(config: Config) -> PromotionPolicy:
    """`[promotion]` and `[metrics]` as the gate takes them."""
    settings = config.promotion
    lower = frozenset(name for name, metric in config.metrics.own.items() if metric.better == "lower")
    guards = (Guardrail(name, share, 0.0, falls=name not in lower) for name, share in config.metrics.guard.items())
    return PromotionPolicy(
        metrics=settings.metrics,
        min_effect=settings.min_effect,
        margin=settings.margin,
        anchor_margin=settings.anchor_margin,
        min_queries=settings.min_queries,
        min_unseen=settings.min_unseen,
        feedback_margin=settings.feedback_margin,
        min_feedback=settings.min_feedback,
        screens=settings.stages != ("offline",),
        min_users=settings.min_users,
        min_days=settings.min_days,
        max_days=settings.max_days,
        looks=settings.looks,
        cuped=settings.cuped,
        live_metric=settings.live_metric,
        guardrails=(*GUARDRAILS, *guards),
        lower=lower,
    )
