"""What a verdict says in words is what its figures say, whatever the log looks like."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.levels import Levels, beside
from flywheel.gates.live import decide_at, decide_live
from flywheel.gates.logged.arms import LogRules, judge
from flywheel.gates.logged.logs import Log
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.gates.sentences import headline, percent
from tests import defaults
from tests.gates.test_live import POLICY, _evidence

SPELLINGS = {"control": ("control", "Control", " control "), "test": ("test", "TEST", "test  "), "c": ("c",)}
NOTHING = ("null", "NaN", "", "\\N", None)


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of two or three arms: spellings, users with and without an id, weeks that overlap or do not, any effect."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arms = ("control", "test", "c")[: draw(st.integers(2, 3))]
    users = draw(st.sampled_from((3, 150, 260, 600)))
    dated, missing, heavy = draw(st.booleans()), draw(st.sampled_from((0.0, 0.1, 0.6))), draw(st.booleans())
    rows: list[dict[str, Any]] = []
    for arm in arms:
        count = int(users * draw(st.sampled_from((0.004, 0.8, 1.0, 1.0, 1.0)))) or 1
        rate, first = draw(st.sampled_from((0.0, 0.02, 0.1, 0.12, 0.2, 0.9))), draw(st.sampled_from((1, 1, 1, 5, 15)))
        pages = 1 + np.floor(rng.pareto(1.5, count).clip(max=60)) if heavy else np.ones(count)
        clicks = rng.binomial(pages.astype(int), rate)
        for number in range(count):
            nobody = rng.random() < missing
            rows.append(
                {
                    "arm": SPELLINGS[arm][number % len(SPELLINGS[arm])],
                    "user": NOTHING[number % len(NOTHING)] if nobody else f"{arm}{number}",
                    "pages": 1 if nobody else int(pages[number]),
                    "clicks": min(1, int(clicks[number])) if nobody else int(clicks[number]),
                    "wait": float(rng.gamma(2.0, 1 + rate)) if rng.random() < 0.9 else None,
                    **({"date": f"2026-03-{first + number % 7:02d}"} if dated else {}),
                }
            )
    rows += [{"arm": draw(st.sampled_from(NOTHING)), "user": "x", "pages": 1, "clicks": 0}] * draw(st.integers(0, 2))
    return rows


def _percents(words: str) -> list[float]:
    return [float(found.replace(",", "")) / 100 for found in re.findall(r"([+-]?[\d,.]*\d) %", words)]


def _agrees(found: dict[str, Any], *, lower: bool) -> None:
    """One comparison: the verdict, its interval, and what is said of it; `lower`: less is better."""
    words, interval = found["headline"], found["interval"]
    assert words.endswith(".")
    assert "\n" not in words
    if found["void"]:
        assert (found["verdict"], words.split(":")[0]) == ("inconclusive", "Nothing can be told")
        return
    if interval is None:
        assert found["verdict"] == "inconclusive"
        assert words.startswith("Keep")
        return
    low, high = interval
    assert low <= found["effect"] <= high
    opening = {"promote": "Take ", "reject": "Keep ", "inconclusive": "Keep "}[found["verdict"]]
    assert words.startswith(opening) or (found["verdict"] == "promote" and "too, but" in words)
    worst, best = (-high, -low) if lower else (low, high)
    if found["verdict"] == "promote":
        assert worst > 0
        assert ("less is better" in words) is lower
    elif found["verdict"] == "reject":
        assert best < 0
        assert ("less would be better" if lower else "loses") in words
    elif "cannot be told" in words:
        assert worst <= 0
    else:
        assert worst > 0, "it brings a gain that something holds back"
    shown = _percents(words)
    sizes = [found["effect"], low, high]
    if found["verdict"] == "reject" and not lower:
        sizes[0] = -sizes[0]
    for size, said in zip(sizes, shown, strict=False):
        assert said == pytest.approx(size, rel=0.06, abs=1e-9)
    p_value, needed = found["p_gain"], found["alpha"]
    for said, against in re.findall(r"\(p ([\d.e-]+), ([\d.e-]+) needed", " ".join(found["reasons"])):
        p_value = found["p_loss"] if found["verdict"] == "reject" else p_value
        assert (float(said) <= float(against)) is (found["verdict"] != "inconclusive" or p_value <= needed)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=logs(),
    once=st.booleans(),
    alpha=st.sampled_from((0.01, 0.05, 0.2)),
    judged_by=st.sampled_from((("ctr", False), ("ctr", False), ("wait", False), ("wait", True))),
)
def test_words_never_contradict_their_figures(
    rows: list[dict[str, Any]], once: bool, alpha: float, judged_by: tuple[str, bool]
) -> None:
    """Over 500 generated logs, by clicks or by a column of which more or less is better, words and figures agree."""
    metric, lower = judged_by
    log = Log(["wait"], winsorise=0.99)
    policy = defaults.policy(live_metric=metric, lower=frozenset({"wait"} if lower else ()))
    for row in rows:
        log.add(row)
    for test in log.tests():
        judged = judge(test, LogRules(policy, alpha=alpha, once=once))
        assert len({arm.casefold().strip() for arm in test.arms}) == len(test.arms)
        for found in judged["comparisons"]:
            _agrees(found, lower=lower)


@pytest.mark.parametrize(
    ("gain", "opening"),
    [(0.10, "The challenger takes over"), (-0.10, "The champion stays:"), (0.0, "The champion stays for now")],
)
def test_live_verdicts_open_with_what_happens_now(gain: float, opening: str) -> None:
    """A running experiment's sentence says who serves, what moved and what would change it."""
    decision = decide_live(_evidence(0, gain), POLICY, 0.01)
    assert decision.headline.startswith(opening)
    assert "satisfied click-through rate" in decision.headline
    assert any(word in decision.headline for word in ("would change", "would find", "may not help"))
    assert decision.as_dict()["headline"] == decision.headline


def test_one_look_decides_both_ways_by_its_own_interval() -> None:
    """A loss that stands out in the only look is rejected, and the sentence quotes that look's interval."""
    evidence = replace(_evidence(3, -0.02, users=20_000), days=28.0)
    watched, once = (decide_at(evidence, POLICY, Levels(0.05, 0.05, once=once)) for once in (False, True))
    assert (watched.verdict, once.verdict) == (Verdict.INCONCLUSIVE, Verdict.REJECT)
    low, high = once.evidence["primary"]["interval"]
    assert low < once.evidence["primary"]["effect"] < high < 0
    assert f"{percent(high)}" in once.headline
    assert "90 % interval" in once.reasons[0]


def test_a_share_of_alpha_is_named_where_it_decides() -> None:
    """Of two metrics a p-value is held against what it needed, not against the level that both share."""
    rng = np.random.default_rng(1)
    before, moved = rng.random(400), rng.normal(0, 1, 400)
    standard = (moved - moved.mean()) / moved.std() * 0.1
    after = {"a": before + standard + 2.08 * 0.1 / 20, "b": before + standard}
    policy = defaults.policy(metrics=("a", "b"))
    evidence = OfflineEvidence(
        {name: (before, values) for name, values in after.items()}, np.arange(400) % 2 == 0, np.arange(400)
    )
    decision = decide_offline(evidence, policy, 0.0262)
    p_value = decision.evidence["parts"]["all"]["a"]["p_gain"]
    assert 0.0131 < p_value < 0.0262, "the case: below alpha, above its half"
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert f"{beside(p_value, 0.0131)} at most needed: alpha 0.026 for one of 2 metrics" in decision.reasons[0]
    assert decision.headline.startswith("The champion stays for now: a on all queries")


def test_passing_the_first_check_is_no_reason_against_it() -> None:
    """What waits for a live stage is said to go on, not to have failed because it passed."""
    words = headline(GateDecision(Verdict.INCONCLUSIVE, ("x",), {"next": "split", "parts": {}}, 0.0), ("v2", "v1"))
    assert words == "v1 stays for now: v2 passed the first check and goes on to split, which decides."


def test_figures_that_differ_look_different() -> None:
    """A figure just beyond its bound is shown with digits that tell them apart; a small share keeps its sign."""
    assert beside(0.05001, 0.05) == "0.05001, 0.05"
    assert beside(0.2, 0.05) == "0.2, 0.05"
    assert [percent(share) for share in (0.5, -0.0004, 2e-7, 12.3, 0.0)] == [
        "+50.0 %",
        "-0.040 %",
        "+0.000020 %",
        "+1,230 %",
        "0 %",
    ]
