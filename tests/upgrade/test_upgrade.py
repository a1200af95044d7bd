"""A home that version 0.1 made and lived in is opened by the present code, with all that was there."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flywheel.cli import main
from tests.upgrade.make_home_v01 import lines, pages

HERE = Path(__file__).parent
TOLD: dict[str, Any] = json.loads((HERE / "home-v0.1.json").read_text("utf-8"))
Answer = Callable[..., Any]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the home and its judged collection, as they were packed."""
    folder = tmp_path_factory.mktemp("v0.1")
    with tarfile.open(HERE / "home-v0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def home(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that this test may change."""
    copy = Path(shutil.copytree(unpacked / "home", tmp_path / "home"))
    monkeypatch.setenv("FLYWHEEL__TRAINER__BASE_MODEL", str(copy / "models" / "base"))
    return copy


@pytest.fixture
def answer(home: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Runs a command of the present code on the copy, and gives its JSON value."""

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        code = main(["--home", str(home), *arguments, "--json"])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return json.loads(printed.out)

    return run


def _row(statement: str, **fields: Any) -> dict[str, Any]:
    """What version 0.1 answered to the statement that begins so, where these fields are equal."""
    (asked,) = [item for item in TOLD["sql"] if statement in item["statement"]]
    (found,) = [row for row in asked["rows"] if fields.items() <= row.items()]
    return found


def test_the_home_has_what_an_upgrade_must_keep() -> None:
    """The fixture is worth its name: feedback, pairs, a run, two models, switches by hand, and a judged experiment."""
    for item in TOLD["sql"]:
        assert item["rows"], item["statement"]
    assert _row("from queries")["n"] > 500
    assert _row("from feedback", kind="click")["n"] > 300
    assert _row("from pairs", run_id="run-0001")["n"] > 20
    assert _row("from training_runs", state="done")["version"] == "v1"
    assert _row("from experiments", stage="split")["verdict"] in {"promote", "reject", "inconclusive"}
    assert _row("from decisions", kind="rollback", actor="cli:ops")["version"] == "base"
    assert TOLD["status"]["champion"]["version"] == "v1"


@pytest.mark.parametrize("asked", TOLD["sql"], ids=lambda asked: asked["statement"].partition(" from ")[2].split()[0])
def test_every_table_has_the_rows_that_it_had(answer: Answer, asked: dict[str, Any]) -> None:
    """The statement that version 0.1 answered is answered with the same rows."""
    assert answer("sql", asked["statement"]) == asked["rows"]


def test_models_and_status_are_what_they_were(answer: Answer) -> None:
    """Every version with its alias and its index, the champion, the counts of ingestion, and the pause."""
    models, status = answer("models"), answer("status")
    kept = TOLD["status"]
    assert [{key: row[key] for key in told} for row, told in zip(models, TOLD["models"], strict=True)] == TOLD["models"]
    assert {key: status["champion"][key] for key in kept["champion"]} == kept["champion"]
    assert {key: status["ingest"][key] for key in kept["ingest"]} == kept["ingest"]
    assert status["cycle"]["paused"] is kept["paused"] is True


def test_the_champion_ranks_as_it_did(answer: Answer, unpacked: Path) -> None:
    """The old directory loads, and scores on judged queries what version 0.1 had measured."""
    told = TOLD["evaluate"]
    found = answer("evaluate", "--beir", str(unpacked / "golden"), "--split", "test")
    for metric in ("ndcg@10", "recall@10", "mrr@10"):
        assert found[metric] == pytest.approx(told[metric], abs=0.01), metric
    assert found["queries"] == told["queries"]


def test_a_rollback_goes_to_the_champion_before(answer: Answer) -> None:
    """The decisions of version 0.1 say who served before; the switch is one more decision after them."""
    before = answer("sql", "select * from decisions order by number")
    answer("resume")
    assert answer("rollback", "--reason", "after the upgrade")["champion"] == "base"
    after = answer("sql", "select * from decisions order by number")
    assert after[: len(before)] == before
    assert [(row["kind"], row["previous"], row["version"]) for row in after[len(before) :]] == [
        ("rollback", "v1", "base")
    ]


def test_the_wheel_turns_on(answer: Answer, tmp_path: Path) -> None:
    """What was learned is known; with pages about something new a turn trains, from the old champion, as the next."""
    decided = "select * from decisions order by number"
    before = answer("sql", decided)
    assert "known to the champion already" in answer("cycle", "--wait")["decision"]["reasons"][0]
    more = lines(tmp_path / "more.ndjson", pages(300, seed=9, day=5, faults=(4, 5)))
    answer("import", "feedback", str(more))
    turn = answer("cycle", "--wait")
    assert turn["training_run"]["state"] == "done"
    assert (turn["training_run"]["run_id"], turn["candidate"]) == ("run-0003", "v2")
    assert turn["training_run"]["parent"] == "v1"
    assert answer("sql", decided)[: len(before)] == before
    assert [row["parent"] for row in answer("models") if row["version"] == "v2"] == ["v1"]
