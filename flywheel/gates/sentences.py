"""Says a verdict in one plain sentence: what happens now, what was gained and how sure that is, what would change it.

It takes every figure from the decision's own evidence and decides nothing, so that words and figures cannot part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flywheel.gates.decision import GateDecision, Verdict

Facts = Mapping[str, Any]
ROLES = ("the challenger", "the champion")


@dataclass(frozen=True, slots=True)
class Acts:
    """What becomes of `{new}` and `{old}`: a daemon acts, for a log of somebody else's test one can only advise."""

    promote: str = "{new} takes over from {old}"
    keep: str = "{old} stays"
    wait: str = "{old} stays for now"


DONE = Acts()
TAKEN_BACK = Acts(keep="{old} takes over again")
ADVISED = Acts("take {new} instead of {old}", "keep {old}", "keep {old} for now")
_NAMES = {"ctr": "the click-through rate", "satisfied_ctr": "the satisfied click-through rate"}
_GOES_ON = "next"


def told(decision: GateDecision, names: tuple[str, str] = ROLES) -> GateDecision:
    """The decision with its headline; `names` are what to call challenger and champion."""
    return replace(decision, headline=headline(decision, names))


def headline(decision: GateDecision, names: tuple[str, str] = ROLES, acts: Acts = DONE) -> str:
    """One sentence about the decision."""
    facts, (new, old) = decision.evidence, names
    keep, wait, promote = (act.format(new=new, old=old) for act in (acts.keep, acts.wait, acts.promote))
    if facts.get(_GOES_ON):
        sentence = f"{wait}: {new} passed the first check and goes on to {facts[_GOES_ON]}, which decides"
    elif facts.get("overtaken"):
        sentence = f"nothing changes: {new} was {facts['overtaken']}"
    elif facts.get("void"):
        sentence = f"nothing can be told: {facts['void']}; mend that and run it again"
    elif facts.get("broken"):
        sentence = f"{keep}: {new} breaks the {facts['broken'][0]}; only a better version changes that"
    elif isinstance(facts.get("primary"), Mapping):
        opening = {Verdict.PROMOTE: promote, Verdict.REJECT: keep, Verdict.INCONCLUSIVE: wait}[decision.verdict]
        sentence = f"{opening}: {_live(decision, facts['primary'], new)}"
    elif "parts" in facts:
        sentence = _offline(decision, (promote, keep, wait), new)
    else:
        opening = {Verdict.PROMOTE: f"{new} goes on", Verdict.REJECT: keep, Verdict.INCONCLUSIVE: wait}[
            decision.verdict
        ]
        sentence = f"{opening}: {_first(decision)}"
    name = sentence.startswith((f"{new} ", f"{old} ")) and names != ROLES
    return f"{sentence}." if name else f"{sentence[0].upper()}{sentence[1:]}."


def _first(decision: GateDecision) -> str:
    unknown = decision.evidence.get("unknown")
    if unknown:
        return str(unknown)
    return decision.reasons[0] if decision.reasons else "there is nothing to go by yet"


def _live(decision: GateDecision, primary: Facts, new: str) -> str:
    facts, metric = decision.evidence, _NAMES.get(primary["metric"], str(primary["metric"]))
    effect, bounds, less = float(primary["effect"]), _range(primary), bool(primary.get("lower"))
    gained = f"{new} brings {percent(effect)} in {metric} ({bounds}{', and less is better' * less})"
    if decision.verdict is Verdict.PROMOTE:
        return f"{gained}; only a fault in the data or a later loss would change that"
    if decision.verdict is Verdict.REJECT:
        huge = primary["interval"][0] > 9 if less else primary["interval"][1] < -0.9
        fault = "; look for a fault first, so large a loss mostly is one" if huge else ""
        lost = f"{new} loses {percent(effect).lstrip('-')} of {metric} ({bounds})"
        if less:
            lost = f"{new} moves {metric} by {percent(effect)} ({bounds}), and less would be better"
        return f"{lost}; only a better version would change that{fault}"
    if primary["verdict"] == "better":
        if facts.get("small"):
            return f"{gained}, less than the {percent(facts['small'])} that a change is worth by the settings"
        return f"{gained}, but {(facts.get('holds') or ['the experiment goes on'])[0]}"
    if facts.get("next_look"):
        return f"nothing is tested before the next planned look, on day {facts['next_look']:g}"
    moved = f"{metric} moved by {percent(effect)} ({bounds})"
    return f"whether {new} is better cannot be told, {moved}{_more(primary)}"


def _range(primary: Facts) -> str:
    low, high = primary["interval"]
    return f"between {percent(low)} and {percent(high)} at {primary['confidence']:.3g} % confidence"


def _more(primary: Facts) -> str:
    """What would change it: people, unless there were enough of them for a gain that matters."""
    needed, sought = primary.get("users_needed"), percent(primary.get("sought", 0.0)).lstrip("+")
    if not needed:
        return "; more people would narrow that"
    unit = "people in the smaller arm" if primary["scale"] == "log ratio" else "people with a preference"
    if needed > primary["users"]:
        return f"; about {rounded(needed)} {unit}, {rounded(primary['users'])} so far, would find a gain of {sought}"
    return f"; these people would have shown a gain of {sought} four times in five, so more may not help"


def _offline(decision: GateDecision, openings: tuple[str, str, str], new: str) -> str:
    facts, (promote, keep, wait) = decision.evidence, openings
    parts = facts["parts"].get("all", {})
    measured = {name: parts[name] for name in facts["primary"] if "effect" in parts.get(name, {})}
    if decision.verdict is Verdict.REJECT:
        return f"{keep}: {_first(decision)}; only a better version would change that"
    if decision.verdict is Verdict.INCONCLUSIVE:
        more = found_with(facts["needed"]) if "needed" in facts else "more judged queries would change that"
        return f"{wait}: {_first(decision)}; {more}"
    if decision.spent == 0.0 or not measured:
        return f"{new} goes on: {_first(decision)}"
    name, best = min(measured.items(), key=lambda item: float(item[1]["p_gain"]))
    moved = f"{name} moved by {best['effect']:+.4f} on {best['n']} judged queries"
    chance = percent(best["p_gain"]).lstrip("+")
    return (
        f"{promote}: {moved}, and without a gain the chance of that is {chance}; only a loss in use would change that"
    )


def found_with(needed: Facts) -> str:
    """How many judged queries would find a gain that matters, from `needed` of an offline decision."""
    gain = f"a gain of {needed['effect']:g} in {needed['metric']}"
    if not needed["more"]:
        return f"the {needed['judged']} judged queries would have shown {gain} four times in five, so more may not help"
    return (
        f"about {rounded(needed['queries'])} judged queries, {needed['judged']} so far, would find {gain} "
        "four times in five"
    )


def wanting(needed: Facts) -> str:
    """The same as a reason of its own, with the spread that it goes by and what the present queries find."""
    by = "the usual spread" if needed["assumed"] else "the upper 80 % limit of the spread seen"
    more = f", {rounded(needed['more'])} more" if needed["more"] and needed["judged"] else ""
    smallest = needed["smallest"]
    present = "" if smallest is None else f"; the present ones find {smallest:.2g}"
    return f"{found_with(needed)}{more} (a query's difference varies by {needed['spread']:.2g}, {by}){present}"


def live_could(outlooks: Sequence[Facts], people: int, max_days: float) -> str:
    """Which live stage could decide at the traffic there is; `outlooks` are `{stage, effect, people, weeks}`."""
    if not outlooks:
        return "no live stage can be planned: too few people so far, or none of them ever clicked"
    told, within = [], [seen for seen in outlooks if 7 * seen["weeks"] <= max_days]
    for seen in outlooks:
        what = "a preference" if seen["stage"] == "interleaving" else "a gain"
        told.append(
            f"{seen['stage']} needs about {rounded(seen['people'])} people for {what} of "
            f"{percent(seen['effect']).lstrip('+')}, {rounded(seen['weeks'])} weeks"
        )
    facts = f"at {people:,} people a week {' and '.join(told)}"
    if not within:
        return f"no live stage could decide within promotion.max_days ({max_days:g}): {facts}"
    best = min(within, key=lambda seen: float(seen["weeks"]))
    return f"{best['stage']} could decide instead (promotion.stages): {facts}"


def percent(share: float) -> str:
    """A share as signed percent, with digits enough that its sign and size can be seen; 0 has no sign."""
    value = 100 * share
    if not math.isfinite(value):
        return "more than can be counted"
    if value == 0:
        return "0 %"
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 1 else min(8, 1 - math.floor(math.log10(size)))
    return f"{value:+,.{places}f} %"


def rounded(count: float) -> str:
    """A count of people to two significant digits, as an estimate deserves."""
    digits = max(0, math.floor(math.log10(max(1.0, count))) - 1)
    return f"{round(count, -digits):,.0f}"
