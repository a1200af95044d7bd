"""Every command explains itself, answers programs in one JSON value, and fails in one line that names the fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from flywheel.cli import COMMANDS, cli, main
from flywheel.settings.load import Promotion
from flywheel.stats.budget import ErrorBudget

SUBCOMMANDS = [[name] for name in COMMANDS] + [
    ["import", kind] for kind in ("documents", "golden", "anchors", "annotations", "feedback")
]
SUBCOMMANDS += [["dead-letters", verb] for verb in ("list", "show", "replay")]
SUBCOMMANDS += [["config", verb] for verb in ("show", "check", "set")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that `flywheel init` made; no daemon runs on it."""
    folder = tmp_path_factory.mktemp("cli") / "home"
    assert main(["--home", str(folder), "init"]) == 0
    return folder


def _answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.mark.parametrize("command", SUBCOMMANDS, ids=" ".join)
def test_help_has_an_example_that_calls_the_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` exits 0 and shows at least one call of that very command."""
    assert main([*command, "--help"]) == 0
    printed = capsys.readouterr().out
    examples = printed.partition("Example")[2]
    assert f"flywheel {' '.join(command)}" in examples or f"{' '.join(command)}" in examples


def test_help_is_fast() -> None:
    """`flywheel --help` loads no database, no model and no broker client, so that it answers at once."""
    heavy = "torch|duckdb|faiss|kafka|pyarrow|numpy|pydantic|rich|httpx"
    script = (
        "import sys; from flywheel.cli import main; code = main(['--help']);"
        f"print(sorted(set('{heavy}'.split('|')) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    started = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    # Loading nothing heavy is the claim; the generous bound only catches what the list above forgot.
    assert time.monotonic() - started < 10


def test_every_command_that_prints_data_has_json() -> None:
    """Only `run`, which serves, and the groups have no `--json` of their own."""
    context = click.Context(cli)
    without = {
        name
        for name in COMMANDS
        if (command := cli.get_command(context, name)) and not any("--json" in option.opts for option in command.params)
    }
    assert without == {"run", "import", "dead-letters", "config"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status", "--nope"],
        ["promote"],
        ["import", "golden"],
        ["sql", "x", "--csv", "--json"],
        ["export", "nothing", "f.csv"],
    ],
)
def test_wrong_use_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood is answered with usage on standard error and code 2."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Usage: flywheel" in printed.err


def test_a_missing_home_names_the_command_that_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a home, code 1 and one line with `flywheel init`."""
    assert main(["--home", str(tmp_path / "none"), "status"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"flywheel --home {tmp_path / 'none'} init" in said


def test_an_unwritable_home_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no folder can be made, the message says to name another."""
    (tmp_path / "file").write_text("")
    assert main(["--home", str(tmp_path / "file" / "home"), "init"]) == 1
    said = capsys.readouterr().err
    assert "--home" in said
    assert "Traceback" not in said


def test_a_mistyped_setting_names_the_nearest(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key in the environment is refused with the right one, by any command."""
    os.environ["FLYWHEEL__RETRAIN__MIN_NEW_PAIR"] = "3"
    try:
        assert main(["--home", str(home), "status"]) == 1
    finally:
        del os.environ["FLYWHEEL__RETRAIN__MIN_NEW_PAIR"]
    assert "did you mean retrain.min_new_pairs?" in capsys.readouterr().err


def test_init_twice_keeps_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second `init` says that it made nothing, and leaves the settings alone."""
    folder = tmp_path / "home"
    assert _answer(capsys, "--home", str(folder), "init")["created"] is True
    (folder / "flywheel.toml").write_text("[retrain]\nmin_new_pairs = 7\n")
    assert _answer(capsys, "--home", str(folder), "init")["created"] is False
    assert "min_new_pairs = 7" in (folder / "flywheel.toml").read_text()


def test_a_fresh_home_has_the_base_model_as_champion(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`models --json` has the fields that programs read, and a directory that is there."""
    models = _answer(capsys, "--home", str(home), "models")
    expected = {"version", "alias", "tier", "parent", "path", "index_id", "created_at", "metrics"}
    assert expected <= set(models[0])
    assert [(model["alias"], model["parent"]) for model in models] == [("champion", None)]
    assert (Path(models[0]["path"]) / "modules.json").is_file()


def test_status_has_what_programs_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`status --json` has every part that the contract names, without a daemon too."""
    status = _answer(capsys, "--home", str(home), "status")
    named = {"ingest", "triggers", "cycle", "champion", "experiment", "training", "broker", "uptime"}
    assert named <= set(status)
    assert {"events", "queries", "dead_letters", "lag", "rate"} <= set(status["ingest"])


def test_sql_answers_in_three_forms(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON for programs, CSV for sheets, a table for people: the same values."""
    question = "select 1 as one, [1, 2] as list, null as nothing, date '2026-01-02' as day"
    assert _answer(capsys, "--home", str(home), "sql", question) == [
        {"one": 1, "list": [1, 2], "nothing": None, "day": "2026-01-02"}
    ]
    assert main(["--home", str(home), "sql", "--csv", question]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "one,list,nothing,day"
    assert main(["--home", str(home), "sql", question]) == 0
    assert "2026-01-02" in capsys.readouterr().out


@pytest.mark.parametrize("statement", ["delete from decisions", "select 1; select 2", "select * from nowhere"])
def test_sql_that_is_refused_says_why(home: Path, statement: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but one SELECT runs; the refusal is one message and code 1."""
    assert main(["--home", str(home), "sql", statement]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_documents_come_in_once(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However often a file is imported, each document is there once; a bad row has its reason each time."""
    path = tmp_path / "docs.jsonl"
    rows = [{"_id": str(i), "title": f"T{i}", "text": "x", "updated_at": "2026-01-01T00:00:00Z"} for i in range(1500)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{oops\n")
    command = ("--home", str(home), "import", "documents", str(path))
    first, again = _answer(capsys, *command), _answer(capsys, *command)
    assert (first["read"], first["stored"], first["skipped"], first["reasons"]) == (1501, 1500, 1, {"not JSON": 1})
    assert again["stored"] + again["skipped"] == again["read"] == 1501
    counted = _answer(capsys, "--home", str(home), "sql", "select count(*) as n from documents")
    assert counted == [{"n": 1500}]


def test_a_golden_set_comes_from_a_beir_folder(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored is the split's judged queries; a wrong split names the right one."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    answer = _answer(capsys, "--home", str(home), "import", "golden", str(tmp_path), "--split", "test")
    assert (answer["read"], answer["stored"], answer["skipped"]) == (1, 1, 0)
    assert main(["--home", str(home), "import", "golden", str(tmp_path), "--split", "dev"]) == 1
    assert "it has test" in capsys.readouterr().err


def test_pause_survives_and_resume_ends_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pause is seen by the next command, which is another process' view of the same home."""
    assert _answer(capsys, "--home", str(home), "pause") == {"paused": True}
    assert _answer(capsys, "--home", str(home), "status")["cycle"]["paused"] is True
    assert _answer(capsys, "--home", str(home), "resume") == {"paused": False}


@pytest.mark.parametrize(
    "arguments", [["promote", "nobody", "--reason", "x"], ["rollback"], ["evaluate", "--beir", "."]]
)
def test_what_cannot_be_done_is_said_in_one_line(
    home: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown version, no former champion, a folder that is no collection: code 1, no traceback."""
    assert main(["--home", str(home), *arguments]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("flywheel: ")]
    assert len(said) == 1


def test_export_writes_what_sql_answers(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exported table has the rows of the table."""
    target = tmp_path / "decisions.jsonl"
    answer = _answer(capsys, "--home", str(home), "export", "decisions", str(target))
    assert answer["rows"] == len(target.read_text().splitlines()) == 1


def test_a_reader_that_leaves_early_sees_no_traceback(home: Path) -> None:
    """`flywheel … | head` ends quietly."""
    command = f"{sys.executable} -m flywheel.cli --home {home} sql --csv 'select range from range(90000)' | head -n 1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stdout == "range\n"
    assert "Traceback" not in ran.stderr


def test_a_plan_needs_fewer_people_for_a_larger_gain(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From recorded feedback, a gain of 20 % needs fewer people than one of 10 %; without feedback it says so."""
    assert main(["--home", str(home), "evaluate", "--plan", "0.1"]) == 1
    assert "too little feedback" in capsys.readouterr().err
    records: list[dict[str, object]] = []
    for page in range(60):
        seen = {"query_id": f"p{page}", "client_id": f"c{page % 20}", "timestamp": 1_770_000_000_000 + page * 1000}
        records.append({**seen, "user_query": "q", "query_response_hit_ids": ["1", "2"]})
        if page % 5 in (0, 3):
            target = {"object": {"object_id": "1"}, "position": {"ordinal": 1}}
            records.append({**seen, "action_name": "click", "event_attributes": target})
    path = tmp_path / "ubi.ndjson"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert _answer(capsys, "--home", str(home), "import", "feedback", str(path))["stored"] == 84
    small, large = (_answer(capsys, "--home", str(home), "evaluate", "--plan", gain) for gain in ("0.1", "0.2"))
    assert small["people"] == 20
    assert small["ctr"]["rate"] == pytest.approx(2 / 5)
    assert small["ctr"]["users_per_arm"] > large["ctr"]["users_per_arm"] > 0
    assert small["satisfied_ctr"] is None
    assert small["alpha"] == pytest.approx(ErrorBudget(alpha=Promotion().alpha).next_alpha([]))
    assert small["interleaving"]["users_at_most"] > 1_000
    assert small["offline"]["ndcg@10"]["queries_for_a_point"] > 1_000
    assert small["offline"]["ndcg@10"]["assumed"]
