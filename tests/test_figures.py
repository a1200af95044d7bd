"""docs/figures.md is what benchmarks/report.py makes of stored results, and each result says where it comes from."""

from __future__ import annotations

import copy
import json
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.harness import ROOT, print_result
from benchmarks.report_rows import GROUPS

ROWS = [row for _, group in GROUPS for row in group]
# parts of a benchmark that do not run by themselves
PARTS = {"click_habits", "evaluator_challengers", "evaluator_scale", "evaluator_worlds", "exploration_arm", "harness"}
PARTS |= {"learning_world", "references", "report", "report_figures", "report_rows", "training_adapter", "__init__"}
PARTS |= {"real_learning", "real_taught", "families", "models"}


@pytest.fixture
def bandit() -> dict[str, Any]:
    """A stored result, to break in one place."""
    return copy.deepcopy(report.read(report.RESULTS)["evaluator-bandit"])


def test_the_page_is_what_the_results_say() -> None:
    """Nobody wrote a figure by hand: the page is made again from results and rows, to the letter."""
    assert report.PAGE.read_text("utf-8") == report.page(report.read(report.RESULTS))


def test_a_result_of_another_command_is_refused(bandit: dict[str, Any]) -> None:
    """A result that was saved under the wrong name cannot pose as another row's; other seeds are no other command."""
    with pytest.raises(report.ResultError, match="the row of"):
        report.page({"evaluator-aa": bandit})
    bandit["run"]["command"] += " --seed 7"
    assert "--seed 7" in report.page({"evaluator-bandit": bandit})


def test_a_figure_that_is_not_there_is_no_empty_cell(bandit: dict[str, Any]) -> None:
    """Whoever renames a figure in a benchmark hears of it; a row without its origin is refused as well."""
    del bandit["inside"]
    with pytest.raises(report.ResultError, match="inside"):
        report.page({"evaluator-bandit": bandit})
    del bandit["run"]
    with pytest.raises(report.ResultError, match="where it comes from"):
        report.page({"evaluator-bandit": bandit})


def test_what_was_not_measured_has_no_figure(bandit: dict[str, Any]) -> None:
    """A row without a result stands at the end with its command alone."""
    measured, _, missing = report.page({"evaluator-bandit": bandit}).partition("## Not yet measured")
    assert "benchmarks.evaluator bandit" in measured
    assert [row.name for row in ROWS if (f"`{row.command}`" in missing) == (row.name == "evaluator-bandit")] == []


def test_the_last_line_says_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command, commit, machine and seeds, on one line, beside the figures; no path and no name of this machine."""
    folder = Path(ROOT.anchor, "somewhere", "scifact")
    monkeypatch.setattr("sys.argv", ["benchmarks/pairs.py", "--beir", str(folder), "--impressions", "10"])
    print_result({"seconds": 1.5}, seeds=[0, 1])
    said = json.loads(capsys.readouterr().out)
    assert said["seconds"] == 1.5
    assert said["run"]["command"] == "python -m benchmarks.pairs --beir scifact --impressions 10"
    assert said["run"]["seeds"] == [0, 1]
    assert set(said["run"]["machine"]) == {"cpu", "cores", "load", "python"}
    assert "somewhere" not in json.dumps(said)
    assert platform.node() not in said["run"]["machine"].values()


def test_every_benchmark_ends_with_that_line_and_has_a_row() -> None:
    """A new benchmark cannot print its result in a way of its own, nor be left out of the page."""
    benchmarks = {path.stem: path.read_text("utf-8") for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(benchmarks) >= PARTS
    alone = {name: text for name, text in benchmarks.items() if name not in PARTS}
    assert [name for name, text in alone.items() if not re.search(r"^\s+print_result\(", text, re.MULTILINE)] == []
    assert {name for row in ROWS for name in re.findall(r"-m benchmarks\.(\w+)", row.command)} == set(alone)


def test_each_command_of_the_page_has_the_options_of_its_benchmark() -> None:
    """What the page tells people to run is spelled as the benchmark reads it."""
    for row in ROWS:
        name = row.command.split()[2].removeprefix("benchmarks.")
        text = (ROOT / "benchmarks" / f"{name}.py").read_text("utf-8")
        assert [option for option in re.findall(r" (--[a-z-]+)", row.command) if f'"{option}"' not in text] == []


def test_stored_results_are_of_a_commit() -> None:
    """What stands in the repository was measured on committed code, so that anybody can measure it again."""
    commits = {name: result["run"]["commit"] for name, result in report.read(report.RESULTS).items()}
    assert commits
    assert {name: commit for name, commit in commits.items() if not re.fullmatch(r"[0-9a-f]{10}", commit or "")} == {}
