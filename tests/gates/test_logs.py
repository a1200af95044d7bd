"""Tests that somebody else ran: any number of arms of any size, with users and without."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from flywheel.gates.arms import NO_SATISFIED, NO_USERS, LogRules, judge, summary
from flywheel.gates.decision import PromotionPolicy
from flywheel.gates.logs import Log
from flywheel.stats.estimate import Estimate
from flywheel.stats.ratio import ArmSums, compare
from tests import defaults

ONCE = defaults.policy(live_metric="ctr", looks=(1.0,))
ANYTIME = defaults.policy(live_metric="ctr")


def _judged(rows: list[dict[str, Any]], policy: PromotionPolicy = ANYTIME, **reading: Any) -> dict[str, Any]:
    log = Log()
    assert [reason for row in rows if (reason := log.add(row))] == []
    (test,) = log.tests()
    return judge(test, LogRules(policy, **({"alpha": 0.05} | reading)))


def _people(rng: np.random.Generator, users: dict[str, int], rate: dict[str, float]) -> list[dict[str, Any]]:
    """A row a user: few of them see most pages, and each has a rate of their own."""
    rows = []
    for arm, count in users.items():
        pages = 1 + np.floor(rng.pareto(1.6, count).clip(max=60)).astype(int)
        own = rng.beta(6 * rate[arm], 6 * (1 - rate[arm]), count)
        clicks = rng.binomial(pages, own)
        rows += [
            {"arm": arm, "user": f"{arm}{n}", "pages": int(pages[n]), "clicks": int(clicks[n])} for n in range(count)
        ]
    return rows


def test_sums_without_users_are_two_proportions() -> None:
    """Impressions and clicks by arm are judged as two proportions, and the answer says that users are not known."""
    found = _judged([{"arm": "A", "impressions": 3000, "clicks": 60}, {"arm": "B", "impressions": 3000, "clicks": 90}])
    (b,) = found["comparisons"]
    both = [[60, 2940], [90, 2910]]
    assert b["effect"] == pytest.approx(0.5)
    assert b["p_value"] == pytest.approx(stats.chi2_contingency(both, correction=False).pvalue, rel=0.1)
    assert b["low"] < b["effect"] < b["high"]
    assert b["sequence"][0] < b["low"]
    assert found["warnings"] == [NO_USERS, NO_SATISFIED]
    assert found["control"] == "A"


def test_rows_of_a_user_add_up_to_the_delta_method() -> None:
    """Page by page or summed beforehand, a user is one unit, and effect and interval are the delta method's."""
    rng = np.random.default_rng(0)
    rows = _people(rng, {"control": 4_000, "new": 4_000}, {"control": 0.2, "new": 0.22})
    pages = [
        {"arm": row["arm"], "user": row["user"], "clicks": int(page < row["clicks"])}
        for row in rows
        for page in range(row["pages"])
    ]
    summed, single = _judged(rows), _judged(pages)
    assert summed["comparisons"] == single["comparisons"]
    assert NO_USERS not in summed["warnings"]
    sums = [
        ArmSums.of(*(np.array([row[name] for row in rows if row["arm"] == arm], float) for name in ("clicks", "pages")))
        for arm in ("control", "new")
    ]
    theirs = compare(*sums)
    assert isinstance(theirs, Estimate)
    found = summed["comparisons"][0]
    assert found["effect"] == pytest.approx(theirs.effect)
    assert (found["low"], found["high"]) == pytest.approx(theirs.interval(), abs=0.008)


def test_users_in_two_arms_are_counted_and_left_out() -> None:
    """A user of two arms is in neither; where they are many the test is void, whatever it shows."""
    rng = np.random.default_rng(1)
    rows = _people(rng, {"A": 1_000, "B": 1_000}, {"A": 0.2, "B": 0.4})
    few = [*rows, *({"arm": "B", "user": f"A{n}", "clicks": 1} for n in range(20))]
    found = _judged(few)
    assert (found["crossed"], found["arms"]["A"]["users"], found["arms"]["B"]["users"]) == (20, 980, 1_000)
    assert found["comparisons"][0]["verdict"] == "promote"
    void = _judged([*rows, *({"arm": "B", "user": f"A{n}", "clicks": 1} for n in range(200))])
    assert void["comparisons"][0]["verdict"] == "inconclusive"
    assert "both arms" in void["comparisons"][0]["reasons"][0]


def test_unequal_arms_need_their_shares_to_be_checked() -> None:
    """Arms of 90 and 10 % are judged with a warning; with shares given the split is tested against them."""
    rows = _people(np.random.default_rng(2), {"A": 9_000, "B": 1_000}, {"A": 0.2, "B": 0.3})
    unknown = _judged(rows)
    assert unknown["srm"] is None
    assert any("no shares given" in words for words in unknown["warnings"])
    assert unknown["comparisons"][0]["verdict"] == "promote"
    meant = _judged(rows, shares={"A": 0.9, "B": 0.1})
    assert not meant["srm"]["mismatch"]
    wrong = _judged(rows, shares={"A": 0.85, "B": 0.15})
    assert wrong["srm"]["mismatch"]
    assert wrong["comparisons"][0]["verdict"] == "inconclusive"
    with pytest.raises(ValueError, match="no share for B"):
        _judged(rows, shares={"A": 1.0})


def test_nearly_equal_arms_are_held_against_equal_shares() -> None:
    """Without shares a split of 52 to 48 is taken for a broken half and half."""
    found = _judged([{"arm": "A", "pages": 52_000, "clicks": 999}, {"arm": "B", "pages": 48_000, "clicks": 999}])
    assert found["srm"]["mismatch"]


@pytest.mark.parametrize("policy", [ONCE, ANYTIME], ids=["once", "any time"])
def test_many_arms_share_one_alpha(policy: PromotionPolicy) -> None:
    """Of tests with four equal arms, in at most 5 % is any arm promoted; one look uses that level up."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        clicks = rng.binomial(4_000, 0.05, 4)
        rows = [{"arm": f"v{n}", "impressions": 4_000, "clicks": int(count)} for n, count in enumerate(clicks)]
        wrong += _judged(rows, policy)["best"] is not None
    assert wrong / 200 <= 0.05 + 2 * 0.0155
    assert policy is ANYTIME or wrong / 200 > 0.01


def test_the_best_of_several_winners_is_named() -> None:
    """Arms that win step down from a third of alpha (Holm), and the largest effect is the best."""
    clicks = {"control": 200, "little": 203, "more": 300, "most": 400}
    rows = [{"experiment": "e", "arm": arm, "pages": 4_000, "clicks": count} for arm, count in clicks.items()]
    found = _judged(rows, ONCE)
    levels = {one["arm"]: one["alpha"] for one in found["comparisons"]}
    verdicts = {one["arm"]: one["verdict"] for one in found["comparisons"]}
    assert levels == pytest.approx({"most": 0.05 / 3, "more": 0.05 / 2, "little": 0.05})
    assert verdicts == {"little": "inconclusive", "more": "promote", "most": "promote"}
    assert (found["best"], found["control"]) == ("most", "control")
    assert summary([found]) == {"promote": 2, "reject": 0, "inconclusive": 1}


def test_headlines_have_no_arm_names() -> None:
    """Rows of an experiment without an arm are arms of their own: the archive of a publisher as it stands."""
    log = Log()
    for test, shown, clicked in (("t1", 3_000, 30), ("t1", 3_000, 75), ("t2", 2_000, 20), ("t2", 2_000, 21)):
        assert log.add({"clickability_test_id": test, "impressions": shown, "clicks": clicked}) is None
    first, second = (judge(test, LogRules(ONCE, alpha=0.05)) for test in log.tests())
    assert (first["control"], first["best"], second["best"]) == ("arm 1", "arm 2", None)


def test_more_clicks_and_fewer_satisfied_is_clickbait() -> None:
    """Where the log tells which clicks satisfied, they decide, and the reason names what happened."""
    rows = [
        {"arm": "A", "pages": 20_000, "clicks": 4_000, "satisfied": 2_000},
        {"arm": "B", "pages": 20_000, "clicks": 5_000, "satisfied": 1_500},
    ]
    found = _judged(rows, defaults.policy())
    assert found["metric"] == "satisfied_ctr"
    assert found["comparisons"][0]["verdict"] == "reject"
    assert any("clickbait" in reason for reason in found["comparisons"][0]["reasons"])
    assert NO_SATISFIED not in found["warnings"]


def test_what_users_did_before_sharpens_it() -> None:
    """A `before` column is the covariate of CUPED, and the policy can leave it out."""
    rng = np.random.default_rng(4)
    rows = []
    for arm in ("A", "B"):
        own = rng.beta(2, 6, 1_000)
        rows += [
            {"arm": arm, "user": f"{arm}{n}", "pages": 10, "clicks": int(c), "before": int(b) - 10}
            for n, (c, b) in enumerate(zip(rng.binomial(10, own), rng.binomial(40, own), strict=True))
        ]
    widths = [
        (one := _judged(rows, defaults.policy(live_metric="ctr", cuped=cuped))["comparisons"][0])["high"] - one["low"]
        for cuped in (True, False)
    ]
    assert widths[0] < 0.8 * widths[1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"clicks": 1}, "no arm"),
        ({"arm": "A", "pages": "many"}, "no number"),
        ({"arm": "A", "clicks": -1}, "no number"),
        ({"arm": "A", "clicks": "nan"}, "no number"),
        ({"arm": "A", "pages": 0}, "no pages"),
        ({"arm": "A", "impressions": "", "clicks": 7}, "no pages"),
        ({"arm": "A", "impressions": 3_000, "clicks": ""}, "no clicks"),
        ({"experiment": "t", "segment": "A", "user": "u", "clicks": 7}, "no arm"),
        ({"arm": "A", "pages": 10, "clicks": 11}, "more clicks than pages"),
    ],
)
def test_rows_that_say_nothing_are_named(row: dict[str, Any], reason: str) -> None:
    """A row that cannot be counted is skipped with its reason, and changes nothing."""
    log = Log()
    assert reason in str(log.add(row))
    assert log.tests() == []


def test_a_control_that_is_not_there_is_an_error() -> None:
    """A misspelt control is refused with the arms that there are."""
    with pytest.raises(ValueError, match="it has A, B"):
        _judged([{"arm": "A", "clicks": 1}, {"arm": "B", "clicks": 0}], control="C")


def test_the_products_own_name_of_the_champion_is_the_control() -> None:
    """What the settings call the champion is held against, before names that are only usual for a control."""
    rows = [{"arm": name, "clicks": 1} for name in ("A", "control", "Incumbent")]
    assert _judged(rows, champions=("incumbent",))["control"] == "Incumbent"
    assert _judged(rows)["control"] == "control"


def test_an_effect_that_nobody_has_ever_seen_is_a_fault() -> None:
    """An arm with a thousand times the clicks of another is no gain but a fault in the data; the loss is rejected as
    one too. The effect is the one that was tested, with half a click in the arm without any, and lies in its interval.
    """
    arms = [{"arm": "A", "pages": 5_000, "clicks": 500}, {"arm": "B", "pages": 5_000, "clicks": 0}]
    for control, verdict, effect in (("A", "reject", -0.999), ("B", "inconclusive", 999.0)):
        found = _judged(arms, control=control)
        (other,) = found["comparisons"]
        assert (other["verdict"], other["effect"]) == (verdict, pytest.approx(effect, rel=1e-3))
        assert other["low"] < other["effect"] < other["high"]
        assert "fault" in other["headline"]
        assert bool(other["void"]) is (verdict == "inconclusive")
        assert found["best"] is None


def test_the_effect_is_the_one_that_was_tested() -> None:
    """With what users did before taken out, effect, interval and reason speak of the same figure."""
    rng = np.random.default_rng(5)
    rows = []
    for arm, more in (("A", 0.0), ("B", 0.15)):  # who came to B clicks more anyway
        own = rng.beta(2, 6, 400) + more
        rows += [
            {"arm": arm, "user": f"{arm}{n}", "pages": 10, "clicks": int(c), "before": b}
            for n, (c, b) in enumerate(zip(rng.binomial(10, own), own - 0.3, strict=True))
        ]
    (b,) = _judged(rows)["comparisons"]
    assert b["low"] < b["effect"] < b["high"]
    assert abs(b["effect"]) < 0.1
    assert f"{b['effect']:+.2%}" in " ".join(b["reasons"])


def test_an_arm_that_lost_everyone_breaks_the_split() -> None:
    """A share of an arm that nobody is in counts: the test is void."""
    rng = np.random.default_rng(6)
    rows = _people(rng, {"A": 1_000, "B": 1_000}, {"A": 0.2, "B": 0.4})
    found = _judged(rows, shares={"A": 1.0, "B": 1.0, "C": 1.0})
    assert found["srm"]["mismatch"]
    assert [one["verdict"] for one in found["comparisons"]] == ["inconclusive"]
    assert not _judged(rows, shares={"A": 1.0, "B": 1.0})["srm"]["mismatch"]


def test_a_later_row_without_a_covariate_leaves_it() -> None:
    """A user's rows may say once what was before."""
    rng = np.random.default_rng(7)
    rows = _people(rng, {"A": 300, "B": 300}, {"A": 0.2, "B": 0.3})
    for row in rows:
        row["before"] = float(rng.normal())
    again = [*rows, *({**row, "pages": 1, "clicks": 0, "before": ""} for row in rows)]
    once = [{**row, "pages": row["pages"] + 1} for row in rows]
    assert _judged(again)["comparisons"] == _judged(once)["comparisons"]


def test_names_of_columns_may_be_written_in_any_way() -> None:
    """Capitals and spaces are no other column, and what is not there at all is said."""
    log = Log()
    assert log.add({"Test": "t", " Variant ": "A", "User": "u", "Impressions": "3", "Clicks": "1"}) is None
    assert (log.tests()[0].name, list(log.tests()[0].arms), log.missing()) == ("t", ["A"], None)
    for row, words in (({"arm": "A", "taps": 3}, "no column of clicks"), ({"colour": "A", "clicks": 3}, "of arm")):
        log = Log()
        log.add(row)
        assert words in str(log.missing())


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
