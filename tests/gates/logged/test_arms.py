"""What is no part of a test is left out and said; one look is one test, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from flywheel.gates.logged.arms import NO_USERS, LogRules, judge
from flywheel.gates.logged.logs import Log
from tests.gates.logged.test_logs import ANYTIME, _judged


def _proportions(counts: dict[str, tuple[int, int]], **more: Any) -> list[dict[str, Any]]:
    """A row a user with one page each: arm -> (users, clicks)."""
    return [
        {"arm": arm, "user": f"{arm}{n}", "pages": 1, "clicks": int(n < clicks), **more}
        for arm, (users, clicks) in counts.items()
        for n in range(users)
    ]


@pytest.mark.parametrize("stray", ["null", "NaN", "\\N", "", "tset"])
def test_stray_users_do_not_switch_off_the_ratio_check(stray: str) -> None:
    """Two users of an arm called null, or of a misspelt one, leave a broken split void."""
    rows = _proportions({"control": (4_200, 400), "test": (3_800, 450)})
    strays = [{"arm": stray, "user": f"s{n}", "pages": 1, "clicks": 1} for n in range(2)]
    log = Log()
    reasons = [log.add(row) for row in [*rows, *strays]]
    (test,) = log.tests()
    found = judge(test, LogRules(ANYTIME, alpha=0.05, once=True))
    assert found["srm"]["mismatch"]
    assert found["comparisons"][0]["void"]
    assert sum(reason is not None for reason in reasons) == (0 if stray == "tset" else 2)
    assert stray != "tset" or any("slip of the log" in words for words in found["warnings"])


def test_spellings_of_an_arm_are_one_arm() -> None:
    """Capitals, blanks and numbers that a table made fractions of make no further arm, and what was merged is said."""
    rows = _proportions({"control": (300, 30), "Control": (300, 30), "test ": (300, 40), "test": (300, 40)})
    for number, row in enumerate(rows):
        row["user"] = number
    found = _judged(rows, once=True)
    assert {arm: figures["users"] for arm, figures in found["arms"].items()} == {"control": 600, "test": 600}
    assert any("'Control' too" in words for words in found["warnings"])
    assert list(_judged([{"arm": 1.0, "clicks": 1}, {"arm": 1, "clicks": 1}, {"arm": 2, "clicks": 1}])["arms"]) == [
        "1",
        "2",
    ]


@pytest.mark.parametrize("nobody", ["NULL", "nan", "\\N", "None", " ", None])
def test_users_called_null_are_nobody(nobody: str | None) -> None:
    """A word for nothing is no person: its pages count as an empty cell's do, and that is said."""
    known = _proportions({"control": (750, 150), "test": (750, 110)})
    unknown = [{"arm": row["arm"], "user": nobody, "pages": 1, "clicks": row["clicks"]} for row in known]
    empty = [{**row, "user": ""} for row in unknown]
    said, blank = (_judged([*known, *rows], once=True) for rows in (unknown, empty))
    assert said["comparisons"] == blank["comparisons"]
    assert (said["crossed"], said["arms"]["test"]["users"]) == (0, 1_500)
    assert NO_USERS in said["warnings"]


def test_an_id_that_stands_for_many_is_named() -> None:
    """One id with a tenth of the pages in both arms is left out, and the answer asks what it stands for."""
    rows = _proportions({"control": (900, 90), "test": (900, 100)})
    hub = [{"arm": arm, "user": "kiosk", "pages": 100, "clicks": 9} for arm in ("control", "test")]
    found = _judged([*rows, *hub])
    assert any("does one id stand for many people" in words for words in found["warnings"])
    assert not any("many people" in words for words in _judged(rows)["warnings"])


def test_weeks_that_followed_each_other_are_no_experiment() -> None:
    """Arms of different weeks are not compared, those that share days are compared on them, and both are said."""
    apart = _judged(_weeks(8))
    assert (apart["comparisons"], apart["best"]) == ([], None)
    assert any("did not run beside" in words for words in apart["warnings"])
    beside = _judged(_weeks(4))
    assert {arm: figures["users"] for arm, figures in beside["arms"].items()} == {"control": 400, "test": 400}
    assert any("not all arms ran" in words for words in beside["warnings"])
    assert _judged(_weeks(1))["arms"]["control"]["users"] == 700


def _weeks(start: int) -> list[dict[str, Any]]:
    """A week of one arm from the first of March, and a week of the other from the day `start`."""
    return [
        {"arm": arm, "user": f"{arm}{n}", "clicks": int(arm == "test"), "date": f"2026-03-{first + n % 7:02d}"}
        for arm, first in (("control", 1), ("test", start))
        for n in range(700)
    ]


def test_a_gain_of_everybody_is_not_called_the_busiest_s() -> None:
    """Where everybody sees one page the rule about the busiest never binds, at any size of the gain."""
    for clicks in range(100, 180, 4):
        found = _judged(_proportions({"control": (1_000, 100), "test": (1_000, clicks)}), once=True)
        (test,) = found["comparisons"]
        assert not any("most active" in reason for reason in test["reasons"])
        assert test["verdict"] == ("promote" if test["p_gain"] <= 0.05 else "inconclusive")


def test_one_look_is_one_test_both_ways() -> None:
    """The only look at a loss of three standard errors rejects, by the p-value of two proportions and its interval."""
    found = _judged(_proportions({"A": (2_000, 60), "B": (2_000, 30)}), once=True)
    (b,) = found["comparisons"]
    assert b["verdict"] == "reject"
    assert b["p_loss"] == pytest.approx(stats.norm.sf(3.2), abs=0.002)
    assert b["interval"][1] < 0
    assert b["sequence"][1] > b["interval"][1], "what holds at any look is wider, and is not what decided"
    assert "sequence" not in b["headline"]


def test_losses_share_alpha_too() -> None:
    """Of three arms that lose, each is rejected at a third, a half and all of alpha, the strongest first (Holm)."""
    counts = {"A": 400, "b": 340, "c": 348, "d": 356}
    found = _judged(_proportions({arm: (4_000, clicks) for arm, clicks in counts.items()}), once=True)
    assert [one["verdict"] for one in found["comparisons"]] == ["reject", "reject", "reject"]
    (alone,) = _judged(_proportions({"A": (4_000, 400), "b": (4_000, 356)}), once=True)["comparisons"]
    assert 0.025 < alone["p_loss"] < 0.05
    counts |= {"b": 400, "c": 400}
    among = _judged(_proportions({arm: (4_000, clicks) for arm, clicks in counts.items()}), once=True)
    assert [one["verdict"] for one in among["comparisons"]] == ["inconclusive"] * 3
