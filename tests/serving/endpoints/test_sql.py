"""SQL answers as JSON, CSV and Arrow."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io

import pyarrow as pa
import pytest

from tests.serving.house import House

TABLE = pa.table(
    {
        "n": pa.array([1, 2**60], pa.int64()),
        "total": pa.array([decimal.Decimal(5), decimal.Decimal(12345678901234567890)], pa.decimal128(38, 0)),
        "share": [0.5, float("nan")],
        "at": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), None]),
        "hits": [["a", "b"], None],
        "payload": [b"\x00\xff", None],
        "name": ['=1+1, "x"\n', None],
    }
)


def ask(house: House, accept: str | None = None):
    house.operations.table = TABLE
    return house.http.post("/v1/sql", json={"query": "select 1"}, headers={"accept": accept} if accept else {})


def test_json_is_a_list_of_objects(house: House) -> None:
    """Numbers stay numbers, however large; times are ISO; not-a-number and absent are null."""
    first, second = ask(house).json()
    assert first == {
        "n": 1, "total": 5, "share": 0.5, "at": "2026-01-02T03:04:05Z", "hits": ["a", "b"], "payload": "AP8=",
        "name": '=1+1, "x"\n',
    }  # fmt: skip
    assert (second["n"], second["total"], second["share"], second["at"]) == (2**60, 12345678901234567890, None, None)


def test_csv_reads_back(house: House) -> None:
    """A header, one line a row, lists as JSON in their cell."""
    answer = ask(house, "text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert (len(rows), rows[0]["n"], rows[0]["hits"], rows[0]["name"]) == (2, "1", '["a", "b"]', '=1+1, "x"\n')
    assert rows[0]["payload"] == "00ff"


def test_arrow_is_the_table_itself(house: House) -> None:
    """Types and values survive."""
    answer = ask(house, "application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(answer.content).read_all().drop(["share"]).equals(TABLE.drop(["share"]))


def test_columns_of_one_name_do_not_swallow_each_other(house: House) -> None:
    """`select a, a` keeps both, told apart by a number."""
    house.operations.table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "a_2"])
    assert sorted(house.http.post("/v1/sql", json={"sql": "x"}).json()[0].values()) == [1, 2, 3]


@pytest.mark.parametrize("accept", ["*/*", "text/html, application/json;q=0.9", "application/*", None])
def test_json_is_what_browsers_and_tools_get(house: House, accept: str | None) -> None:
    """Whatever allows JSON gets it."""
    assert ask(house, accept).headers["content-type"] == "application/json"


def test_refusals_are_clear(house: House) -> None:
    """406 for other formats, 400 for no statement and for what the database refuses, in its words."""
    assert ask(house, "image/png").status_code == 406
    assert house.http.post("/v1/sql", json={}).status_code == 400
    refused = house.http.post("/v1/sql", json={"query": "drop table queries"})
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "only SELECT statements are answered here",
    )
    plain = house.http.post("/v1/sql", content=b"select 1", headers={"content-type": "application/sql"})
    assert [row["n"] for row in plain.json()] == [1, 2**60]
