"""Thresholds ask for a retrain, brakes hold it back, and each says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flywheel.gates.triggers import Measurements, Tried, check
from flywheel.settings.load import Retrain

HOUR = 3_600_000
QUIET = Measurements(new_pairs=10, satisfied_ctr=0.3, satisfied_ctr_before=0.3, drift=0.01)
LOUD = {
    "new_pairs": Measurements(new_pairs=200),
    "satisfied_ctr_drop": replace(QUIET, satisfied_ctr=0.2),
    "drift": replace(QUIET, drift=0.2),
    "golden_drop": replace(QUIET, golden_now=0.60, golden_at_promotion=0.65),
}


def test_nothing_fires_below_every_threshold() -> None:
    """With every value below its threshold there is no retrain, and each check is still reported."""
    answer = check(QUIET, Retrain(), now_ms=HOUR)
    assert not answer.retrain
    assert {item.name for item in answer.checks} >= {"new_pairs", "drift", "cron", "cooldown", "budget"}


@pytest.mark.parametrize("name", LOUD)
def test_each_threshold_fires_on_its_own(name: str) -> None:
    """Any one threshold is enough, and the answer names it."""
    answer = check(LOUD[name], Retrain(), now_ms=HOUR)
    assert (answer.retrain, answer.trigger) == (True, name)


@pytest.mark.parametrize(
    ("brake", "measured", "settings"),
    [
        ("paused", {"paused": True}, Retrain()),
        ("retrain.enabled", {}, Retrain(enabled=False)),
        ("going on", {"running": True}, Retrain()),
        ("30 to go", {"last_finished_ms": HOUR // 2}, Retrain()),
        ("8 of 8", {"runs_last_day": 8}, Retrain()),
    ],
)
def test_a_brake_holds_a_retrain_back_and_says_so(brake: str, measured: dict[str, int], settings: Retrain) -> None:
    """A fired threshold does not retrain against a brake, and the reason names the brake."""
    answer = check(replace(LOUD["new_pairs"], **measured), settings, now_ms=HOUR)  # type: ignore[arg-type]
    assert not answer.retrain
    assert brake in answer.trigger


def test_what_cannot_be_measured_never_fires() -> None:
    """Without a golden set, a past week or a distribution to compare with, those checks stay silent."""
    answer = check(Measurements(), Retrain(), now_ms=HOUR)
    assert not answer.retrain
    assert sum("not measurable" in item.note for item in answer.checks) == 3


def test_cron_is_a_trigger_like_any_other() -> None:
    """A due cron time retrains although no figure asks for it."""
    assert check(QUIET, Retrain(), now_ms=HOUR, cron_due=True).trigger == "cron"


def test_pages_that_wait_for_the_watermark_are_named() -> None:
    """Where no pair is new yet, the note says how many pages wait and for what."""
    waiting = Measurements(waiting_pages=1_553, watermark_minutes=30)
    note = check(waiting, Retrain(min_new_pairs=60), now_ms=0).checks[0].note
    assert note.startswith("new positive pairs: 0 of 60; 1,553 pages wait until events are 30 minutes newer")
    assert "wait" not in check(Measurements(), Retrain(), now_ms=0).checks[0].note


def test_what_is_off_says_that_it_is_off() -> None:
    """A cron that is not set is off, and `retrain.enabled = false` names what still retrains."""
    notes = {item.name: item.note for item in check(Measurements(), Retrain(enabled=False), now_ms=0).checks}
    assert notes["cron"] == "off: retrain.cron is not set"
    assert "only `flywheel cycle` retrains" in notes["disabled"]


@pytest.mark.parametrize("name", ["satisfied_ctr_drop", "drift", "golden_drop"])
def test_a_run_that_cannot_end_otherwise_is_not_repeated(name: str) -> None:
    """A figure that the evidence did not mend asks again, and is held back until the evidence or the way is another."""
    same = replace(LOUD[name], tried=Tried("run-0007", "ended as reject (no gain)", 13))
    answer = check(same, Retrain(), now_ms=HOUR)
    assert not answer.retrain
    assert "not repeated: same evidence as run-0007, which ended as reject (no gain)" in answer.trigger
    assert "187 more new pairs (13 of 200), another tier" in answer.trigger
    enough = replace(same, tried=Tried("run-0007", "ended as reject", 200))
    assert check(enough, Retrain(), now_ms=HOUR).retrain
    assert check(replace(same, tried=None), Retrain(), now_ms=HOUR).retrain


def test_cron_does_not_repeat_a_run_either() -> None:
    """A due cron time starts no run that was made already."""
    same = replace(QUIET, tried=Tried("run-0001", "ended as inconclusive", 0))
    assert not check(same, Retrain(), now_ms=HOUR, cron_due=True).retrain
