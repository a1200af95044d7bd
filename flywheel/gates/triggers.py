"""Whether to retrain now, and why: measurements against the configured thresholds. It measures nothing itself.

Every check is returned, fired or not, so that `trigger_checks` answers "why did it not retrain?".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flywheel.settings.load import Retrain


@dataclass(frozen=True, slots=True)
class Tried:
    """A run that went the same way and did not change the champion, how it ended, and the pairs that are new since."""

    run_id: str
    outcome: str
    new_pairs: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """What is known now. `None` means not measurable yet; such a check never fires.

    `satisfied_ctr`, `satisfied_ctr_before` and `ctr` are shares of pages in [0, 1], `drift` is a Jensen-Shannon
    distance in [0, 1], `golden_now` and `golden_at_promotion` are mean nDCG@10. `waiting_pages` came after the
    watermark and are counted nowhere yet. `tried`: a run like the next one was made, to no effect. Times are epoch
    milliseconds.
    """

    new_pairs: int = 0
    waiting_pages: int = 0
    watermark_minutes: float = 0.0
    satisfied_ctr: float | None = None
    satisfied_ctr_before: float | None = None
    ctr: float | None = None
    drift: float | None = None
    golden_now: float | None = None
    golden_at_promotion: float | None = None
    last_finished_ms: int | None = None
    runs_last_day: int = 0
    running: bool = False
    paused: bool = False
    tried: Tried | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One value compared with one threshold. `fired` asks for a retrain, or brakes one; `note` says why in words."""

    name: str
    value: float | None
    threshold: float | None
    fired: bool
    note: str


@dataclass(frozen=True, slots=True)
class Answer:
    """All checks, whether to retrain, and the first reason for it or against it."""

    retrain: bool
    trigger: str
    checks: tuple[Check, ...]


def check(measured: Measurements, thresholds: Retrain, *, now_ms: int, cron_due: bool = False) -> Answer:
    """Compare every value with its threshold; any one that fires asks for a retrain, unless a brake holds.

    The brakes are: paused, disabled, already running, cooldown, the daily budget of runs, and that the same run was
    made on the same evidence and cannot end otherwise.
    """
    checks = (
        _new_pairs(measured, thresholds),
        _at_least("satisfied_ctr_drop", _relative_drop(measured), thresholds.satisfied_ctr_drop, "relative CTR drop"),
        _at_least("drift", measured.drift, thresholds.drift, "distance of the query distribution"),
        _at_least("golden_drop", _golden_drop(measured), thresholds.golden_drop, "nDCG@10 lost on a golden set"),
        Check("cron", None, None, cron_due, _cron_note(thresholds.cron, cron_due)),
    )
    fired = [item for item in checks if item.fired]
    brakes = _brakes(measured, thresholds, now_ms)
    if not fired:
        return Answer(False, "no threshold is reached", (*checks, *brakes))
    active_brake = next((brake for brake in brakes if brake.fired), None)
    if active_brake is not None:
        return Answer(False, f"{fired[0].name} asks, but {active_brake.note}", (*checks, *brakes))
    return Answer(True, fired[0].name, (*checks, *brakes))


def _new_pairs(measured: Measurements, thresholds: Retrain) -> Check:
    value, least = float(measured.new_pairs), float(thresholds.min_new_pairs)
    check = _at_least("new_pairs", value, least, "new positive pairs")
    if not measured.waiting_pages or check.fired:
        return check
    waits = (
        f"{check.note}; {measured.waiting_pages:,} pages wait until events are {measured.watermark_minutes:g} minutes "
        "newer than they are (signals.watermark_minutes)"
    )
    return replace(check, note=waits)


def _cron_note(line: str | None, due: bool) -> str:
    if line is None:
        return "off: retrain.cron is not set"
    return f"cron {line!r} is due" if due else f"cron {line!r} is not due"


def _at_least(name: str, value: float | None, threshold: float, what: str) -> Check:
    if value is None:
        return Check(name, None, threshold, False, f"{what}: not measurable yet")
    fired = value >= threshold
    return Check(name, value, threshold, fired, f"{what}: {value:.4g} of {threshold:.4g}")


def _relative_drop(measured: Measurements) -> float | None:
    before, now = measured.satisfied_ctr_before, measured.satisfied_ctr
    return None if not before or now is None else 1 - now / before


def _golden_drop(measured: Measurements) -> float | None:
    if measured.golden_now is None or measured.golden_at_promotion is None:
        return None
    return measured.golden_at_promotion - measured.golden_now


_ENABLED = {True: "retrain.enabled is true", False: "retrain.enabled is false: only `flywheel cycle` retrains"}


def _brakes(measured: Measurements, thresholds: Retrain, now_ms: int) -> Sequence[Check]:
    since = None if measured.last_finished_ms is None else (now_ms - measured.last_finished_ms) / 60_000
    cooling = since is not None and since < thresholds.cooldown_minutes
    spent = measured.runs_last_day >= thresholds.max_runs_per_day
    runs, budget = float(measured.runs_last_day), float(thresholds.max_runs_per_day)
    return (
        Check("paused", None, None, measured.paused, "retraining is paused" if measured.paused else "not paused"),
        Check("disabled", None, None, not thresholds.enabled, _ENABLED[thresholds.enabled]),
        Check("running", None, None, measured.running, "a run is going on" if measured.running else "no run going on"),
        Check("cooldown", since, thresholds.cooldown_minutes, cooling, _cooldown_note(since, thresholds, cooling)),
        Check("budget", runs, budget, spent, f"{measured.runs_last_day} of {budget:.0f} runs in 24 hours"),
        _repeat(measured.tried, thresholds.min_new_pairs),
    )


def repeated(tried: Tried | None, least: int) -> str | None:
    """Why a run would only repeat one that was made, and what the next one needs; None where it would not."""
    if tried is None or tried.new_pairs >= least:
        return None
    same = f"same evidence as {tried.run_id}, which {tried.outcome}"
    more = f"{least - tried.new_pairs} more new pairs ({tried.new_pairs} of {least})"
    return f"not repeated: {same}; the next run needs {more}, another tier, other settings, or other judged queries"


def _repeat(tried: Tried | None, least: int) -> Check:
    value, why = None if tried is None else float(tried.new_pairs), repeated(tried, least)
    note = why or ("this way is untried" if tried is None else f"new evidence since {tried.run_id}")
    return Check("repeat", value, float(least), why is not None, note)


def _cooldown_note(since: float | None, thresholds: Retrain, cooling: bool) -> str:
    if since is None:
        return "no run yet"
    left = f", {thresholds.cooldown_minutes - since:.0f} to go" if cooling else ""
    return f"last run {since:.0f} minutes ago, cooldown {thresholds.cooldown_minutes:.0f}{left}"
