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
