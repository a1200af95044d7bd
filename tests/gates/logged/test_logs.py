"""Tests that somebody else ran: any number of arms of any size, with users and without."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from flywheel.gates.decision import PromotionPolicy
from flywheel.gates.logged.arms import NO_SATISFIED, NO_USERS, LogRules, judge, summary
from flywheel.gates.logged.logs import Log
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
