"""A live decision's evidence as rows of `ab_outcomes`: for each metric the sums, the effect and its sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from flywheel.interleaving import PreferenceSums
from flywheel.promotion import Decision, Policy
from flywheel.significance.estimate import Estimate, Inconclusive
from flywheel.significance.ratio import ArmSums, compare
from flywheel.significance.sequential import e_gain, sequence
from flywheel.store.experiments import Experiment
from flywheel.store.outcomes import ArmSums as StoredSums
from flywheel.store.outcomes import Outcome, shadow

LEVEL = 0.95
PREFERENCE = "preference"
_BETTER_HIGH = ("satisfied_ctr", "ctr")


def live(experiment: Experiment, decision: Decision, policy: Policy, now_ms: int) -> list[Outcome]:
    """Rows of one look; the next look replaces them. Effects are differences by page, intervals hold at every look."""
    evidence = decision.evidence
    if "estimates" in evidence:
        return shadow(experiment.experiment_id, evidence, decision.reasons, now_ms)
    rows = [
        _metric(experiment, name, arms, decision, policy, now_ms)
        for name, arms in evidence.get("metrics", {}).items()
        if all(arm["users"] and arm["pages"] for arm in arms.values())
    ]
    preference = evidence.get("preference")
    if preference and preference["users"]:
        rows.append(_preference(experiment, preference, decision, policy, now_ms))
    return rows


def _metric(
    experiment: Experiment,
    name: str,
    arms: Mapping[str, Mapping[str, float]],
    decision: Decision,
    policy: Policy,
    now_ms: int,
) -> Outcome:
    champion, challenger = (ArmSums.from_dict(arms[arm]).without_before() for arm in ("champion", "challenger"))
    found = compare(champion, challenger, relative=False)
    row = _blank(experiment, name, _stored(champion), _stored(challenger), now_ms)
    expected = policy.expected_gain * (abs(champion.ratio) or 1.0)
    filled = _filled(row, found, expected, decision.reasons, better_high=name in _BETTER_HIGH)
    primary = decision.evidence.get("primary")
    if primary and primary["metric"] == name:  # the decision rests on the relative effect
        filled = dataclasses.replace(filled, e_value=primary.get("e_gain"))
    return filled


def _preference(
    experiment: Experiment, sums: Mapping[str, float], decision: Decision, policy: Policy, now_ms: int
) -> Outcome:
    """A person is a unit with one page: nothing under the champion, the preference under the challenger."""
    votes = PreferenceSums(**{name: sums[name] for name in sums})  # type: ignore[arg-type]
    users = votes.users
    nothing = StoredSums(users, users, users, 0.0, 0.0, 0.0)
    theirs = StoredSums(users, users, users, votes.preference, votes.preference_squared, votes.preference)
    row = dataclasses.replace(_blank(experiment, PREFERENCE, nothing, theirs, now_ms), cross_sum=0.0)
    return _filled(row, votes.compare(), policy.expected_preference, decision.reasons, better_high=True)


def _blank(experiment: Experiment, metric: str, champion: StoredSums, challenger: StoredSums, now_ms: int) -> Outcome:
    return Outcome(
        experiment_id=experiment.experiment_id,
        stage=experiment.stage,
        metric=metric,
        part="all",
        champion=champion,
        challenger=challenger,
        verdict="inconclusive",
        reasons=("no spread between users",),
        updated_at_ms=now_ms,
    )


def _filled(
    row: Outcome, found: Estimate | Inconclusive, expected: float, reasons: tuple[str, ...], *, better_high: bool
) -> Outcome:
    if isinstance(found, Inconclusive):
        return dataclasses.replace(row, reasons=(found.reason,))
    if found.standard_error == 0:
        return row
    low, high = sequence(found, expected=expected, level=LEVEL)
    better, worse = (low > 0, high < 0) if better_high else (high < 0, low > 0)
    return dataclasses.replace(
        row,
        verdict="better" if better else "worse" if worse else "inconclusive",
        reasons=reasons,
        effect=found.effect,
        low=low,
        high=high,
        level=LEVEL,
        critical=(high - low) / 2 / found.standard_error,
        e_value=e_gain(found, expected=expected),
    )


def _stored(arm: ArmSums) -> StoredSums:
    return StoredSums(arm.users, arm.pages, arm.pages_squared, arm.value, arm.value_squared, arm.value_pages)
