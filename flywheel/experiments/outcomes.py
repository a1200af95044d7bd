"""A live decision's evidence as rows of `ab_outcomes`: the sums, the effect and the verdict of each metric.

It tests nothing that the decision has tested already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from flywheel.gates.decision import GUARDRAILS, GateDecision, PromotionPolicy
from flywheel.gates.live import BETTER, UNDECIDED, WORSE
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.ratio import ArmSums, compare, log_ratio
from flywheel.stats.sequential import e_gain, e_loss, sequence
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.outcomes import LOG_RATIO, Outcome, shadow
from flywheel.store.evaluation.outcomes import OutcomeSums as StoredSums

LEVEL = 0.95
PREFERENCE = "preference"
_DIFFERENCES = frozenset(guard.metric for guard in GUARDRAILS)


def live(experiment: Experiment, decision: GateDecision, policy: PromotionPolicy, now_ms: int) -> list[Outcome]:
    """Rows of one look; the next look replaces them. Intervals hold at every look.

    The live metric and clicks are on the decision's own scale: the logarithm of the ratio, adjusted for what users did
    before where the policy does so. Guardrails are differences by page. Where the decision tested a metric, its row has
    the e-values of that test, and says better or worse only if the test did.
    """
    evidence = decision.evidence
    if "estimates" in evidence:
        return shadow(experiment.experiment_id, evidence, decision.reasons, now_ms)
    rows = [
        _metric(_blank(experiment, name, now_ms), arms, decision, policy)
        for name, arms in evidence.get("metrics", {}).items()
        if all(arm["users"] and arm["pages"] for arm in arms.values())
    ]
    preference = evidence.get("preference")
    if preference and preference["users"]:
        rows.append(_preference(_blank(experiment, PREFERENCE, now_ms), preference, decision, policy))
    return rows


def _metric(
    row: Outcome, arms: Mapping[str, Mapping[str, float]], decision: GateDecision, policy: PromotionPolicy
) -> Outcome:
    champion, challenger = (ArmSums.from_dict(arms[arm]) for arm in ("champion", "challenger"))
    rate = row.metric not in _DIFFERENCES
    if not rate or not policy.cuped:
        champion, challenger = champion.without_before(), challenger.without_before()
    scale = LOG_RATIO if rate else row.scale
    row = dataclasses.replace(row, champion=_stored(champion), challenger=_stored(challenger), scale=scale)
    guard = decision.evidence.get("guardrails", {}).get(row.metric)
    if rate:
        filled = _filled(row, log_ratio(champion, challenger), policy.expected_gain, decision.reasons)
        if row.metric == policy.live_metric:
            return _as_decided(filled, decision)
        turned = _turned(filled) if row.metric in policy.lower else filled
        return dataclasses.replace(turned, verdict=WORSE) if guard and guard["broken"] else turned
    expected = guard["tolerated"] if guard else policy.expected_gain * (abs(champion.ratio) or 1.0)
    filled = _filled(row, compare(champion, challenger, relative=False), expected, decision.reasons)
    if filled.effect is None:
        return filled
    verdict_if_unbroken = BETTER if filled.verdict == WORSE else UNDECIDED
    said = WORSE if guard and guard["broken"] else verdict_if_unbroken
    return dataclasses.replace(filled, verdict=said, e_value=guard["e_value"] if guard else None, e_loss=None)


def _turned(row: Outcome) -> Outcome:
    """The row where less is better."""
    opposite = {BETTER: WORSE, WORSE: BETTER}.get(row.verdict, row.verdict)
    return dataclasses.replace(row, verdict=opposite, e_value=row.e_loss, e_loss=row.e_value)


def _preference(row: Outcome, sums: Mapping[str, float], decision: GateDecision, policy: PromotionPolicy) -> Outcome:
    """A row whose units are people with one page each: 0 under the champion, the preference under the challenger."""
    votes = PreferenceSums(**{name: sums[name] for name in sums})  # type: ignore[arg-type]
    users = votes.users
    nothing = StoredSums(users, users, users, 0.0, 0.0, 0.0)
    theirs = StoredSums(users, users, users, votes.preference, votes.preference_squared, votes.preference)
    row = dataclasses.replace(row, champion=nothing, challenger=theirs, cross_sum=0.0)
    filled = _filled(row, votes.compare(), policy.expected_preference, decision.reasons)
    return filled if policy.live_metric in decision.evidence["metrics"] else _as_decided(filled, decision)


def _as_decided(row: Outcome, decision: GateDecision) -> Outcome:
    """The row with the decision's own test; without one there is no verdict on the metric."""
    tested = decision.evidence.get("primary") or {}
    verdict = tested.get("verdict", UNDECIDED)
    return dataclasses.replace(row, verdict=verdict, e_value=tested.get("e_gain"), e_loss=tested.get("e_loss"))


def _blank(experiment: Experiment, metric: str, now_ms: int) -> Outcome:
    nobody = StoredSums(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Outcome(
        experiment_id=experiment.experiment_id,
        stage=experiment.stage,
        metric=metric,
        part="all",
        champion=nobody,
        challenger=nobody,
        verdict=UNDECIDED,
        reasons=("no spread between users",),
        updated_at_ms=now_ms,
    )


def _filled(row: Outcome, found: Estimate | Inconclusive, expected: float, reasons: tuple[str, ...]) -> Outcome:
    """The row with effect, sequence and e-values; an effect above 0 is better."""
    if isinstance(found, Inconclusive):
        return dataclasses.replace(row, reasons=(found.reason,))
    if found.standard_error == 0:
        return row
    low, high = sequence(found, expected=expected, level=LEVEL)
    return dataclasses.replace(
        row,
        verdict=BETTER if low > 0 else WORSE if high < 0 else UNDECIDED,
        reasons=reasons,
        effect=found.effect,
        low=low,
        high=high,
        level=LEVEL,
        critical=(high - low) / 2 / found.standard_error,
        e_value=e_gain(found, expected=expected),
        e_loss=e_loss(found, expected=expected),
    )


def _stored(arm: ArmSums) -> StoredSums:
    plain = (arm.users, arm.pages, arm.pages_squared, arm.value, arm.value_squared, arm.value_pages)
    return StoredSums(*plain, arm.before, arm.before_squared, arm.value_before, arm.pages_before)
