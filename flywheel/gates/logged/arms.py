"""Judges tests by arm: sums in, one verdict for each arm against the control out, with a plain sentence each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flywheel.gates.decision import GateDecision, PromotionPolicy, Verdict
from flywheel.gates.levels import Levels
from flywheel.gates.live import GOES_ON, LiveEvidence, decide_at, effects
from flywheel.gates.logged.logs import Arm, LoggedTest
from flywheel.gates.sentences import ADVISED, headline
from flywheel.gates.void import SRM_LEVEL
from flywheel.stats.estimate import Estimate, Inconclusive
from flywheel.stats.ratio import ArmSums, log_ratio
from flywheel.stats.sequential import e_gain, e_loss
from flywheel.stats.srm import sample_ratio

_CONTROLS = (
    *("champion", "control", "ctrl", "ctl", "baseline", "base", "default", "original", "old", "off", "false", "none"),
    *("a", "0"),
)
ALSO = "{{new}} is better than {{old}} too, but {best} gained more"
# arms whose counts differ by more than this share were probably not meant to be equal
_NEARLY_EQUAL = 0.1
# people who met several arms and have this share of the pages are mostly one id that stands for many
_MANY_PAGES = 0.05
NO_USERS = (
    "no user ids: every page counts as a user of its own, which makes intervals too narrow where people come back"
)
NO_SATISFIED = "nothing says which clicks satisfied: clicks alone reward clickbait"


@dataclass(frozen=True, slots=True)
class LogRules:
    """How the log is judged: `policy.live_metric` decides, `alpha` is each experiment's own error rate, for gains and
    for losses.

    `once`: the test is over and looked at this once, so a fixed-size test decides. `control` names the arm that the
    others are compared with (None: one of `champions`, else an arm with a usual name such as `control`, else the
    first). `shares` are what each arm was meant to get. `days` is how long the test ran (None: it is over).
    """

    policy: PromotionPolicy
    alpha: float
    once: bool = False
    control: str | None = None
    champions: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    days: float | None = None


def judge(test: LoggedTest, reading: LogRules) -> dict[str, Any]:
    """Every arm against the control, as plain values.

    The arms share `reading.alpha` by Holm (1979). One over an e-value is a p-value at any look.

    Returns:
        `{experiment, control, arms, metric, srm, crossed, warnings, comparisons, best}`; a comparison is `{arm, effect,
        low, high, p_value, p_gain, p_loss, sequence, e_gain, e_loss, alpha, interval, confidence, users_needed, void,
        verdict, headline, reasons}`, relative to the control. `interval` is what the verdict goes by, `low` and `high`
        are 95 % of one look, `sequence` is 95 % at any look. `best` is the promoted arm with the largest effect.

    Raises:
        ValueError: the control that was named is no arm of the test, or an arm has no share where shares are given.
    """
    control, guessed = _control(test, reading)
    policy, clicks_alone = _policy(test, reading)
    shares, unequal = _shares(test, reading)
    nobody = NO_USERS if any(arm.anonymous_pages for arm in test.arms.values()) else None
    others, over = [name for name in test.arms if name != control], reading.days is None
    estimates = {name: log_ratio(*_pair(test, policy, (control, name))) for name in others}
    losses = _stepped({name: _p_values(estimates[name], policy, reading)[1] for name in others}, reading.alpha)
    # Holm: the strongest evidence first, and every promotion leaves a larger level to the rest
    ranked = sorted(others, key=lambda name: _p_values(estimates[name], policy, reading)[0])
    decisions: dict[str, GateDecision] = {}
    for name in ranked:
        remaining = len(others) - sum(decision.verdict is Verdict.PROMOTE for decision in decisions.values())
        levels = Levels(reading.alpha / max(1, remaining), losses[name], once=reading.once)
        decisions[name] = decide_at(_evidence(test, reading, policy, (control, name), shares), policy, levels)
    best = _best(decisions, policy)
    comparisons = {
        name: _comparison(name, policy, estimates[name], _advised(decision, (name, control), best), over=over)
        for name, decision in decisions.items()
    }
    warnings = (nobody, guessed, clicks_alone, unequal, _shared_ids(test), *test.notes, _alone(test))
    return {
        "experiment": test.name,
        "control": control,
        "metric": policy.live_metric,
        "arms": {name: _figures(arm) for name, arm in test.arms.items()},
        "srm": asdict(sample_ratio(_checked(_users(test, shares), shares), shares, level=SRM_LEVEL))
        if len(shares) > 1
        else None,
        "crossed": test.crossed,
        "warnings": [words for words in warnings if words],
        "comparisons": [comparisons[name] for name in others],
        "best": best,
    }


def _best(decisions: Mapping[str, GateDecision], policy: PromotionPolicy) -> str | None:
    """The promoted arm that gained most."""
    effects = {
        name: float(decision.evidence["primary"]["effect"])
        for name, decision in decisions.items()
        if decision.verdict is Verdict.PROMOTE
    }
    sign = -1 if policy.live_metric in policy.lower else 1
    return max(effects, key=lambda name: sign * effects[name], default=None)


def _advised(decision: GateDecision, names: tuple[str, str], best: str | None) -> GateDecision:
    """The decision with its sentence; of several arms that beat the control only the best is to be taken."""
    behind = decision.verdict is Verdict.PROMOTE and names[0] != best
    acts = replace(ADVISED, promote=ALSO.format(best=best)) if behind else ADVISED
    return replace(decision, headline=headline(decision, names, acts))


def _p_values(found: Estimate | Inconclusive, policy: PromotionPolicy, reading: LogRules) -> tuple[float, float]:
    """Of a gain and of a loss. One over an e-value is a p-value at any look."""
    if isinstance(found, Inconclusive):
        return 1.0, 1.0
    expected = policy.expected_gain
    gain, loss = (
        (found.p_gain(), found.p_loss())
        if reading.once
        else (1 / max(e(found, expected=expected), 1e-300) for e in (e_gain, e_loss))
    )
    return (loss, gain) if policy.live_metric in policy.lower else (gain, loss)


def _stepped(p_values: Mapping[str, float], alpha: float) -> dict[str, float]:
    """The level of each by Holm (1979): every one that is found leaves a larger level to the rest."""
    levels, remaining = {}, len(p_values)
    for name in sorted(p_values, key=lambda name: p_values[name]):
        levels[name] = alpha / max(1, remaining)
        remaining -= p_values[name] <= levels[name]
    return levels


def _shared_ids(test: LoggedTest) -> str | None:
    if test.crossed_pages <= _MANY_PAGES:
        return None
    return (
        f"{test.crossed} users met more than one arm and are left out with {test.crossed_pages:.0%} of the pages: does "
        "one id stand for many people?"
    )


def _control(test: LoggedTest, reading: LogRules) -> tuple[str, str | None]:
    """The arm to hold the others against, and what to say where it is a guess."""
    if reading.control is not None:
        return _arm_called(test, reading.control), None
    arm_of_name = {name.casefold(): name for name in test.arms}
    names = (*(name.casefold() for name in reading.champions), *_CONTROLS)
    known = next((arm_of_name[name] for name in names if name in arm_of_name), None)
    first = next(iter(test.arms))
    if known is None and len(test.arms) > 1:
        return (
            first,
            f"no arm has a name such as control: {first}, the first one, is taken for it; --control names another",
        )
    return known or first, None


def _arm_called(test: LoggedTest, name: str) -> str:
    """The arm of this name, however it is spelt."""
    wanted = " ".join(name.split()).casefold()
    for arm in test.arms:
        if arm.casefold() == wanted:
            return arm
    raise ValueError(f"{test.name} has no arm {name!r}; it has {', '.join(test.arms)}")


def _policy(test: LoggedTest, reading: LogRules) -> tuple[PromotionPolicy, str | None]:
    """The policy, on clicks where the log has nothing better."""
    metric = reading.policy.live_metric
    if all(metric in arm.metrics for arm in test.arms.values()):
        return reading.policy, NO_SATISFIED if metric == "ctr" and not _all_have(test, "satisfied_ctr") else None
    return replace(reading.policy, live_metric="ctr"), NO_SATISFIED


def _all_have(test: LoggedTest, metric: str) -> bool:
    return all(metric in arm.metrics for arm in test.arms.values())


def _alone(test: LoggedTest) -> str | None:
    if len(test.arms) > 1:
        return None
    return f"{test.name}: one arm ({', '.join(test.arms)}): nothing to hold it against"


def _users(test: LoggedTest, shares: Mapping[str, float]) -> dict[str, int]:
    """Users by arm; 0 for an arm that has a share and is not in the log."""
    return {name: test.arms[name].users if name in test.arms else 0 for name in {**test.arms, **shares}}


def _checked(users: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """The users of the arms whose split is checked."""
    return {name: count for name, count in users.items() if name in shares}


def _shares(test: LoggedTest, reading: LogRules) -> tuple[dict[str, float], str | None]:
    """What each arm was meant to get: as given, else equal shares of those that are nearly as large as the largest.

    Two or more of nearly one size were meant to be equal, whatever small arm there is beside them.
    """
    users = _users(test, {})
    if reading.shares:
        spelt = {arm.casefold(): arm for arm in users}
        shares = {spelt.get(" ".join(name.split()).casefold(), name): share for name, share in reading.shares.items()}
        absent = set(users) - set(shares)
        if absent:
            raise ValueError(f"{test.name}: no share for {', '.join(sorted(absent))}")
        return shares, None
    least = (1 - _NEARLY_EQUAL) / (1 + _NEARLY_EQUAL) * max(users.values(), default=0)
    alike = {name: count for name, count in users.items() if count >= least}
    mean = sum(alike.values()) / max(1, len(alike))
    if len(alike) < min(2, len(users)) or any(abs(count - mean) > _NEARLY_EQUAL * mean for count in alike.values()):
        return {}, "arms of unequal size and no shares given: whether the split is as it was meant cannot be told"
    odd = [name for name in users if name not in alike]
    said = f"{', '.join(odd)}: much smaller than the others and no shares given, so only the split of those is checked"
    return dict.fromkeys(alike, 1.0), said if odd else None


def _pair(test: LoggedTest, policy: PromotionPolicy, names: tuple[str, str]) -> tuple[ArmSums, ArmSums]:
    champion, challenger = (test.arms[name].metrics[policy.live_metric] for name in names)
    return (champion, challenger) if policy.cuped else (champion.without_before(), challenger.without_before())


def _evidence(
    test: LoggedTest, reading: LogRules, policy: PromotionPolicy, pair: tuple[str, str], shares: Mapping[str, float]
) -> LiveEvidence:
    champion, challenger = (test.arms[name] for name in pair)
    names = [name for name in champion.metrics if _all_have(test, name)]
    metrics = {name: (champion.metrics[name], challenger.metrics[name]) for name in names}
    metric = policy.live_metric
    steady = (
        (champion.steady[metric], challenger.steady[metric])
        if metric in champion.steady and metric in challenger.steady
        else None
    )
    days = policy.max_days if reading.days is None else reading.days
    return LiveEvidence(metrics, steady, users=_users(test, shares), shares=shares, crossed=test.crossed, days=days)


def _comparison(
    arm: str, policy: PromotionPolicy, found: Estimate | Inconclusive, decision: GateDecision, *, over: bool
) -> dict[str, Any]:
    reasons = decision.reasons[1:] if over and decision.evidence.get("expired") else decision.reasons
    said = [words for words in reasons if not (over and words == GOES_ON)]
    verdict = {"verdict": decision.verdict.value, "headline": decision.headline, "reasons": said}
    facts: dict[str, Any] = {"arm": arm, "alpha": decision.evidence["alpha"]}
    facts |= dict.fromkeys(("effect", "low", "high", "p_value", "p_gain", "p_loss", "sequence", "e_gain", "e_loss"))
    primary = decision.evidence.get("primary") or {}
    facts |= {key: primary.get(key) for key in ("interval", "confidence", "users_needed")}
    facts["void"] = decision.evidence.get("void")
    if isinstance(found, Estimate):
        effect, low, high = (math.expm1(min(value, 700.0)) for value in (found.effect, *found.interval()))
        expected, less = policy.expected_gain, policy.live_metric in policy.lower
        tested = Estimate(-found.effect, found.standard_error, found.degrees) if less else found
        facts |= {"p_gain": tested.p_gain(), "p_loss": tested.p_loss()}
        facts |= {"effect": effect, "low": low, "high": high, "p_value": found.p_value()}
        facts |= {"sequence": list(effects(found, expected, split=True)[1:])}
        facts |= {"e_gain": e_gain(tested, expected=expected), "e_loss": e_loss(tested, expected=expected)}
    return facts | verdict


def _figures(arm: Arm) -> dict[str, Any]:
    rates = {name: sums.ratio for name, sums in arm.metrics.items()}
    return {"users": arm.users, "pages": arm.metrics["ctr"].pages, **rates}


def summary(judged: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many comparisons ended in which verdict."""
    counts = Counter(comparison["verdict"] for test in judged for comparison in test["comparisons"])
    return {verdict.value: counts[verdict.value] for verdict in Verdict}
