"""Whatever DuckDB holds arrives as it is: over HTTP in three forms, and from the command without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from flywheel.app import open_local
from flywheel.cli import cli
from flywheel.daemon.local import LocalOperations
from flywheel.settings.home import Home
from tests.serving.house import House

VALUES = [
    ("TIME '09:30:00'", "09:30:00"),
    ("'12:00:00+02'::TIMETZ", "12:00:00+02"),
    ("'infinity'::TIMESTAMP", "infinity"),
    ("'-infinity'::DATE", "-infinity"),
    ("'infinity'::TIMESTAMPTZ", "infinity"),
    ("DATE '0044-03-15 (BC)'", "-0043-03-15"),
    ("TIMESTAMP '0044-03-15 (BC) 10:00:00'", "-0043-03-15T10:00:00.000000"),
    ("DATE '12026-03-15'", "12026-03-15"),
    ("'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS", "2026-01-01T00:00:00.123456789"),
    ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
    ("340282366920938463463374607431768211455::UHUGEINT", str(2**128 - 1)),
    ("INTERVAL '1 month 2 days'", "1 month 2 days"),
    ("'101'::BIT", "101"),
    ("[TIME '09:30:00']", ["09:30:00"]),
    ("{'at': [DATE '0044-03-15 (BC)']}", '{"at": ["-0043-03-15"]}'),
]


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalOperations]:
    folder = tmp_path_factory.mktemp("values") / "home"
    Home(folder).init()
    with open_local(folder, {}) as local:
        yield local


@pytest.mark.parametrize(("value", "shown"), VALUES)
def test_a_value_is_the_same_over_http(house: House, operations: LocalOperations, value: str, shown: Any) -> None:
    """JSON and CSV show it, alone and beside nothing; Arrow can be read."""
    house.operations.table = operations.sql(f"SELECT {value} AS t UNION ALL SELECT NULL")

    def ask(accept: str) -> bytes:
        answer = house.http.post("/v1/sql", json={"query": "select 1"}, headers={"accept": accept})
        assert answer.status_code == 200
        return answer.content

    assert json.loads(ask("application/json")) == [{"t": shown}, {"t": None}]
    text = shown if isinstance(shown, str) else json.dumps(shown)
    cell = ask("text/csv").decode().splitlines()[1].strip('"').replace('""', '"')
    assert text.replace("T", " ") in cell.replace("T", " ")
    assert pa.ipc.open_stream(ask("application/vnd.apache.arrow.stream")).read_all().num_rows == 2


def test_the_command_answers_as_the_daemon_does(tmp_path: Path) -> None:
    """Two columns of one name are two, and every value above can be printed in all three forms."""
    Home(tmp_path / "home").init()
    question = "select 1 as a, 2 as a, " + ", ".join(f"{value} AS v" for value, _ in VALUES)

    def ask(*options: str) -> str:
        ran = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "sql", question, *options])
        assert ran.exit_code == 0, ran.output
        return ran.output

    (row,) = json.loads(ask("--json"))
    assert (row["a"], row["a_2"]) == (1, 2)
    assert [row["v" if number == 1 else f"v_{number}"] for number in range(1, len(VALUES) + 1)] == [
        shown for _, shown in VALUES
    ]
    header, cells = ask("--csv").splitlines()
    assert header.startswith("a,a_2,v,v_2")
    assert cells.startswith("1,2,09:30:00,12:00:00+02,infinity")
    assert "a_2" in ask()
