"""`flywheel evaluate --arms` and `--experiment`: a file that somebody brings, and pages that the product tagged."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.cli import main

DAY_MS = 86_400_000
START_MS = 1_770_000_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms") / "home"
    assert main(["--home", str(folder), "init"]) == 0
    return folder


def _answer(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> Any:
    capsys.readouterr()
    code = main(["--home", str(home), *arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out.splitlines()[-1])


def _visits() -> Iterator[dict[str, Any]]:
    """Pages of 900 people in arms of two to one; the smaller one satisfies far more often. Person 0 meets both, and
    everybody came before the experiment too."""
    rng = np.random.default_rng(0)
    for person in range(900):
        arm = "treatment" if person % 3 == 0 else "control"
        own = rng.beta(2, 6)
        for page in range(3 + rng.poisson(2)):
            before = page < 2
            yield {
                "query_id": f"p{person}-{page}",
                "person": person,
                "arm": None if before else "control" if person == 0 and page == 2 else arm,
                "clicked": rng.random() < own * (1.6 if arm == "treatment" and not before else 1),
                "ts": START_MS + person * 1000 + (0 if before else 10 * DAY_MS + page * DAY_MS),
            }


def _ubi(visit: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The page and what was done with it, by a clock that is two hours slow."""
    seen = {"query_id": visit["query_id"], "client_id": f"c{visit['person']}"}
    tags = {"experiment_id": "home test", "arm": visit["arm"]} if visit["arm"] else {}
    yield {
        **seen,
        "user_query": "q",
        "query_response_hit_ids": ["1"],
        "timestamp": visit["ts"],
        "query_attributes": tags,
    }
    if visit["clicked"]:
        target = {"object": {"object_id": "1"}, "position": {"ordinal": 1}}
        late = visit["ts"] - 7_200_000
        yield {**seen, "action_name": "click", "timestamp": late, "event_attributes": target}
        yield {**seen, "action_name": "dwell", "timestamp": late, "event_attributes": {**target, "dwell_ms": 90_000}}


def test_tagged_pages_and_their_file_say_the_same(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages that the product tagged are judged like the same test in a file: people who met both arms left out, clocks
    that disagree no matter, and what people did before as covariate."""
    log, table = tmp_path / "ubi.ndjson", tmp_path / "rows.csv"
    visits = list(_visits())
    log.write_text("".join(json.dumps(record) + "\n" for visit in visits for record in _ubi(visit)))
    _answer(capsys, home, "import", "feedback", str(log))
    earlier = [visit for visit in visits if visit["arm"] is None]
    usual = sum(visit["clicked"] for visit in earlier) / len(earlier)
    before = dict.fromkeys(range(900), 0.0)
    for visit in earlier:
        before[visit["person"]] += visit["clicked"] - usual
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["experiment", "arm", "user", "clicks", "satisfied", "before"])
        for visit in visits:
            if visit["arm"]:
                clicked = int(visit["clicked"])
                rows.writerow(["home test", visit["arm"], visit["person"], clicked, clicked, before[visit["person"]]])
    shares = ("--share", "control=2", "--share", "treatment=1")
    stored = _answer(capsys, home, "evaluate", "--experiment", "home test", *shares)
    brought = _answer(capsys, home, "evaluate", "--arms", str(table), *shares)
    assert (stored["verdicts"], brought["read"]) == ({"promote": 1, "reject": 0, "inconclusive": 0}, brought["read"])
    ours, theirs = stored["experiments"][0], brought["experiments"][0]
    assert ours["crossed"] == theirs["crossed"] == 1
    assert not ours["srm"]["mismatch"]
    (there,), (here,) = ours["comparisons"], theirs["comparisons"]
    for name in ("effect", "low", "high", "p_value", "e_gain"):
        assert there[name] == pytest.approx(here[name], rel=1e-9)


def _import(home: Path, folder: Path, capsys: pytest.CaptureFixture[str], records: list[dict[str, Any]]) -> None:
    log = folder / "more.ndjson"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    _answer(capsys, home, "import", "feedback", str(log))


def _page(name: str, person: str, ts: int = START_MS, **tags: str) -> dict[str, Any]:
    seen = {"query_id": name, "client_id": person, "user_query": "q", "query_response_hit_ids": ["1", "2"]}
    return {**seen, "timestamp": ts, "query_attributes": tags}


def _act(page: dict[str, Any], action: str, doc: str = "1", **more: int) -> dict[str, Any]:
    seen = {"query_id": page["query_id"], "client_id": page["client_id"], "action_name": action}
    return {**seen, "timestamp": page["timestamp"] + 5_000, "event_attributes": {"object": {"object_id": doc}, **more}}


def test_what_satisfies_is_what_the_live_stages_count(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document dwelt on, liked, carted or bought satisfies its page, unless it was voted down: counted by hand."""
    rng = np.random.default_rng(1)
    kinds = {"click": {}, "dwell": {"dwell_ms": 60_000}, "thumbs_up": {}, "thumbs_down": {}, "purchase": {}}
    records, satisfied = [], {"control": 0, "treatment": 0}
    for number in range(400):
        arm = "control" if number % 2 else "treatment"
        page = _page(f"s{number}", f"s{number % 100}", experiment_id="kinds", arm=arm)
        records.append(page)
        good = False
        for doc in "12":
            done = [kind for kind in kinds if rng.random() < 0.2]
            records += [_act(page, kind, doc, **kinds[kind]) for kind in done]
            good |= bool({"dwell", "thumbs_up", "purchase"} & set(done)) and "thumbs_down" not in done
        satisfied[arm] += good
    _import(home, tmp_path, capsys, records)
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "kinds")["experiments"]
    assert {arm: round(figures["satisfied_ctr"] * 200) for arm, figures in found["arms"].items()} == satisfied


def test_one_busy_visitor_counts_no_more_than_the_settings_say(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a crawler with 500 pages the first 200 count, as in the live stages."""
    records = [_page(f"c{n}", "crawler", START_MS + n, experiment_id="busy", arm="A") for n in range(500)]
    records += [_page(f"o{n}", f"o{n}", experiment_id="busy", arm="AB"[n % 2]) for n in range(20)]
    _import(home, tmp_path, capsys, records)
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "busy")["experiments"]
    assert {arm: figures["pages"] for arm, figures in found["arms"].items()} == {"A": 210, "B": 10}


def test_clicks_alone_decide_where_nothing_else_was_sent(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A product that sends clicks and nothing else has its tests judged by clicks, with a warning."""
    records = []
    for number in range(1_200):
        page = _page(f"k{number}", f"k{number}", experiment_id="clicks", arm=("control", "treatment")[number % 2])
        records += [page, *([_act(page, "click")] if number % 10 < 3 + 4 * (number % 2) else [])]
    _import(home, tmp_path, capsys, records)
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "clicks")["experiments"]
    assert (found["metric"], found["comparisons"][0]["verdict"]) == ("ctr", "promote")
    assert any("clickbait" in words for words in found["warnings"])


def test_versions_that_followed_each_other_are_no_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages that only their model tells apart are compared in the time that the models share, and else not at all."""
    home, day = tmp_path / "home", DAY_MS
    main(["--home", str(home), "init"])
    records = []
    for number in range(1_000):
        page = _page(f"v{number}", f"v{number}", START_MS + number * day // 100, model_version=f"m{number // 500}")
        records += [page, *([_act(page, "click")] if number % 10 < 3 + 4 * (number // 500) else [])]
    _import(home, tmp_path, capsys, records)
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "all")["experiments"]
    assert found["comparisons"] == []
    assert any("one arm (m1)" in words for words in found["warnings"])
    beside = [_page(f"b{n}", f"b{n}", START_MS + (500 + n) * day // 100, model_version="m0") for n in range(500)]
    _import(home, tmp_path, capsys, [*beside, *(_act(page, "click") for page in beside[::3])])
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "all")["experiments"]
    assert [one["arm"] for one in found["comparisons"]] == ["m1"]
    assert found["arms"]["m0"]["pages"] == pytest.approx(500, abs=20)


def test_an_arm_that_everybody_left_for_another_voids_the_test(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all who met one arm met the other too, that is the verdict, and the arm is still named."""
    records = [_page(f"a{n}", f"a{n}", experiment_id="vanish", arm="A") for n in range(1_000)]
    records += [_page(f"z{n}", f"a{n}", experiment_id="vanish", arm="B") for n in range(400)]
    _import(home, tmp_path, capsys, records)
    (found,) = _answer(capsys, home, "evaluate", "--experiment", "vanish")["experiments"]
    assert (found["crossed"], list(found["arms"])) == (400, ["A", "B"])
    (b,) = found["comparisons"]
    assert b["verdict"] == "inconclusive"
    assert "met both arms" in b["reasons"][0]


def test_tests_without_the_control_are_named_and_the_others_judged(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One test of a file that lacks the control does not stop the file."""
    table = tmp_path / "tests.csv"
    table.write_text("test,arm,impressions,clicks\nx,A,900,9\nx,B,900,40\ny,C,900,30\ny,D,900,31\n")
    found = _answer(capsys, home, "evaluate", "--arms", str(table), "--control", "A", "--once", "--days", "14")
    assert [(test["experiment"], test["best"]) for test in found["experiments"]] == [("x", "B")]
    assert found["refused"] == ["y has no arm 'A'; it has C, D"]
    assert not any("goes on" in reason for reason in found["experiments"][0]["comparisons"][0]["reasons"])


def test_a_publishers_archive_is_read_as_it_is(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Headlines with impressions and clicks are arms of their tests; the answer says that no users are known."""
    archive = tmp_path / "archive.csv"
    archive.write_text(
        "clickability_test_id,headline,impressions,clicks\n"
        "a,One,3000,30\na,Two,3010,80\na,Three,2990,33\nb,Four,3000,40\nb,Five,3000,41\nb,Six,,7\n"
    )
    found = _answer(capsys, home, "evaluate", "--arms", str(archive), "--once")
    assert found["verdicts"] == {"promote": 1, "reject": 0, "inconclusive": 2}
    assert (found["read"], found["reasons"]) == (6, {"no pages": 1})
    assert [test["best"] for test in found["experiments"]] == ["arm 2", None]
    assert any("no user ids" in words for words in found["experiments"][0]["warnings"])
    assert main(["--home", str(home), "evaluate", "--arms", str(archive), "--experiment", "a"]) == 0
    assert "arm 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--control", "nobody"], 1, "has no arm 'nobody'"),
        (["--share", "treatment"], 1, "no ARM=NUMBER"),
        (["--experiment", "other"], 1, "nothing to judge"),
        (["--plan", "0.1"], 2, "give --beir"),
    ],
)
def test_wrong_use_names_the_fix(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """A control, share or experiment that is not there is one line of error."""
    table = tmp_path / "rows.csv"
    table.write_text("arm,clicks\nA,1\nB,0\n")
    assert main(["--home", str(home), "evaluate", "--arms", str(table), *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_metric_of_the_product_s_own_is_a_column(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Revenue decides where it is asked for, one order of a million is cut, and a column that is not there is named."""
    rng = np.random.default_rng(3)
    table = tmp_path / "orders.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["arm", "user", "pages", "clicks", "Revenue"])
        for person in range(4_000):
            arm = ("control", "test")[person % 2]
            buys = rng.random() < (0.30 if arm == "test" else 0.22)
            order = 1e6 if person == 0 else round(float(rng.lognormal(3, 0.4)), 2)
            rows.writerow([arm, f"u{person}", 1, int(rng.random() < 0.3), order if buys or person == 0 else ""])
    arguments = ("evaluate", "--arms", str(table), "--once", "--metric", "Revenue")
    (found,) = _answer(capsys, home, *arguments)["experiments"]
    (test,) = found["comparisons"]
    assert (found["metric"], test["verdict"]) == ("revenue", "promote")
    assert 0.1 < test["effect"] < 0.7
    assert "brings" in test["headline"]
    assert "revenue" in test["headline"]
    (uncut,) = _answer(capsys, home, *arguments, "--winsorise", "1")["experiments"]
    assert uncut["comparisons"][0]["effect"] < -0.9, "without the cut the one order decides"
    assert main(["--home", str(home), "evaluate", "--arms", str(table), "--metric", "profit"]) == 1
    assert "no column profit" in capsys.readouterr().err
    assert main(["--home", str(home), "evaluate", "--experiment", "x", "--metric", "profit"]) == 2
