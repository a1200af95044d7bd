"""`flywheel import`: every row is stored or told with its reason and place, and a set says what it cannot decide."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.app import open_local
from flywheel.cli import main
from flywheel.commands.files.carry import Carrier
from flywheel.files.skipped import ImportCount
from flywheel.operations import OperationError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("import") / "home"
    assert main(["--home", str(folder), "init"]) == 0
    return folder


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; returns its exit code, its answer if it gave one, and what it told people."""

    def run(*arguments: str | Path) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = main(["--home", str(home), *map(str, arguments), "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out.splitlines()[-1]) if printed.out else None, printed.err

    return run


def _lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _judged(folder: Path, queries: int, document: str = "doc-{}") -> Path:
    (folder / "qrels").mkdir(parents=True)
    _lines(folder / "queries.jsonl", *({"_id": f"g{n}", "text": f"question number {n}"} for n in range(queries)))
    rows = "".join(f"g{n}\t{document.format(n)}\t1\n" for n in range(queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_parquet_of_older_writers_is_text(ask: Any, tmp_path: Path) -> None:
    """Strings without their annotation, and times of 96 bits, come in as what they mean."""
    when = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    table = pa.table({" doc_id ": [b"p1"], "title": [b"Alpha"], "text": [b"A text."], "updated_at": [when]})
    pq.write_table(table, tmp_path / "d.parquet", use_deprecated_int96_timestamps=True)
    assert ask("import", "documents", tmp_path / "d.parquet")[:2] == (
        0,
        {"read": 1, "stored": 1, "skipped": 0, "reasons": {}, "places": {}},
    )
    found = ask("sql", "SELECT title, text, updated_at::VARCHAR AS at FROM documents WHERE doc_id = 'p1'")[1]
    assert found == [{"title": "Alpha", "text": "A text.", "at": "2026-03-01 09:30:00"}]


def test_arms_in_bytes_are_the_arms_that_they_name(ask: Any, tmp_path: Path) -> None:
    """`control` is the control in whatever type a file holds it; a list is no arm, and a missing user no person."""
    arms = [b"test", b"control"] * 300
    users = [float(number) if number % 50 else None for number in range(600)]
    table = {"arm": arms, "user": users, "clicks": [float(number % 3 == 0) for number in range(600)]}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    code, answer, _ = ask("evaluate", "--arms", tmp_path / "log.parquet", "--once")
    (test,) = answer["experiments"]
    assert (code, test["control"], set(test["arms"])) == (0, "control", {"test", "control"})
    assert answer["skipped"] == 0
    listed = pa.table({"arm": [["A", "B"], ["A"]], "clicks": [1, 0]})
    pq.write_table(listed, tmp_path / "lists.parquet")
    code, _, said = ask("evaluate", "--arms", tmp_path / "lists.parquet")
    assert code == 1
    assert "experiment, arm or user: a list where text is expected" in said


def test_a_list_or_an_object_is_no_text(ask: Any, tmp_path: Path) -> None:
    """The reason names the field, the place names file and line, and a file that brings nothing exits with 1."""
    path = _lines(tmp_path / "d.jsonl", {"doc_id": "l1", "title": ["A", "B"], "text": {"en": "one", "de": "eins"}})
    code, answer, _ = ask("import", "documents", path)
    assert (code, answer["stored"]) == (1, 0)
    assert answer["places"] == {"title: a list where text is expected": ["d.jsonl:1"]}


def test_what_is_there_already_is_no_failure(ask: Any, tmp_path: Path) -> None:
    """A file that is imported again stores nothing and exits with 0; an empty one exits with 1."""
    click = {"action_name": "click", "query_id": "a1", "timestamp": 1_770_000_000_000}
    path = _lines(tmp_path / "u.jsonl", click)
    assert ask("import", "feedback", path)[1]["stored"] == 1
    code, answer, _ = ask("import", "feedback", path)
    assert (code, answer["reasons"]) == (0, {"stored already": 1})
    (tmp_path / "empty.jsonl").write_text("")
    assert ask("import", "documents", tmp_path / "empty.jsonl")[0] == 1


def test_the_daemons_reasons_have_their_line_too(ask: Any, tmp_path: Path) -> None:
    """What only the decoder can refuse is found in the file by its line, across batches."""
    good = {"action_name": "click", "query_id": "t", "timestamp": 1_770_000_000_000}
    bad = good | {"timestamp": 1_770_000_000}
    path = _lines(tmp_path / "u.jsonl", *([good] * 1_003), bad, {"neither": 1}, bad)
    answer = ask("import", "feedback", path)[1]
    seconds = next(reason for reason in answer["places"] if "looks like seconds" in reason)
    assert answer["places"][seconds] == ["u.jsonl:1004", "u.jsonl:1006"]
    assert answer["skipped"] == answer["reasons"]["stored already"] + 3


def test_ratings_of_label_studio_are_grades_in_all_its_forms(ask: Any, tmp_path: Path) -> None:
    """JSON-MIN and CSV hold the answer in a list of objects; other columns are named beside what was expected."""
    row = {"query": "copy a list", "doc_id": "d1", "relevance": [{"rating": 4}], "id": 1, "annotator": 1}
    (tmp_path / "min.json").write_text(json.dumps([row]))
    (tmp_path / "e.csv").write_text('annotator,doc_id,query,relevance\n1,d2,copy a list,"[{""rating"": 4}]"\n')
    (tmp_path / "s.csv").write_text("query;doc_id;grade\ncopy a list;d3;0,5\n")
    for name in ("min.json", "e.csv", "s.csv"):
        assert ask("import", "annotations", tmp_path / name)[1]["stored"] == 1
    grades = "SELECT doc_id, grade FROM golden_judgements WHERE set_version = ("
    current = ask("sql", grades + "SELECT arg_max(version, imported_at) FROM golden_sets) ORDER BY doc_id")[1]
    assert current == [{"doc_id": f"d{n}", "grade": grade} for n, grade in ((1, 4.0), (2, 4.0), (3, 0.5))]
    (tmp_path / "other.json").write_text(json.dumps([{"query": "copy a list", "doc_id": "d1", "quality": "relevant"}]))
    code, answer, _ = ask("import", "annotations", tmp_path / "other.json")
    assert (code, list(answer["reasons"])) == (
        1, ["no column grade, relevance, rating, label or choice; it has query, doc_id, quality"]
    )  # fmt: skip


def test_a_set_of_unknown_documents_says_so_before_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The import and doctor say that nothing can be decided, and the gate counts no such query; once the documents
    are there, it does."""
    home = tmp_path / "home"
    assert main(["--home", str(home), "init"]) == 0
    with open_local(home, {}) as local:
        sets, golden = local._in.cycle.judged_sets, local._in.store.golden
        folder = _judged(tmp_path / "judged", 60)
        queries = [{"id": f"g{n}", "text": f"question number {n}"} for n in range(60)]
        judged = [{"query_id": f"g{n}", "doc_id": f"doc-{n}", "grade": 1} for n in range(60)]
        answer = local.import_judged("golden", folder.name, queries, judged)
        assert (answer["stored"], answer["decidable"]) == (60, 0)
        assert "none of the 60 relevant documents is in the collection" in answer["problems"][0]
        check = next(check for check in local.doctor() if check["check"] == "golden set")
        assert check["ok"] is False
        assert "none of the 60 relevant documents is in the collection" in check["detail"]
        assert [len(found) for found in sets()] == [0]
        assert golden.problems()
        local.import_records("documents", [{"doc_id": f"doc-{n}", "title": "x", "text": "y"} for n in range(59)])
        assert [len(found) for found in sets()] == [59]
        assert "1 of 60 queries have no relevant document" in golden.problems()[0]
        local.import_records("documents", [{"doc_id": "doc-59", "title": "x", "text": "y"}])
        assert golden.problems() == []
        assert next(check for check in local.doctor() if check["check"] == "golden set")["ok"] is True
    capsys.readouterr()


def test_judged_queries_that_are_lost_are_counted(ask: Any, tmp_path: Path) -> None:
    """`read` is every judged query, also those that queries.jsonl lacks."""
    folder = _judged(tmp_path / "lost", 2)
    with (folder / "qrels" / "test.tsv").open("a") as rows:
        rows.write("q98\td4\t1\nq99\td4\t1\n")
    code, answer, _ = ask("import", "golden", folder)
    assert (code, answer["read"], answer["stored"], answer["skipped"]) == (0, 4, 2, 2)
    assert answer["places"] == {"a judged query that queries.jsonl lacks": ["test.tsv:4", "test.tsv:5"]}


class _Picky:
    """Operations that refuse any batch with `bad` in it, as a daemon refuses a body."""

    def __init__(self) -> None:
        self.stored: list[int] = []

    def import_records(self, kind: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        if any(record["n"] in (3, 700) for record in records):
            raise OperationError("the body is not valid JSON", "invalid_json")
        self.stored += [record["n"] for record in records]
        return {"read": len(records), "stored": len(records), "skipped": 0, "reasons": {}}


def test_a_batch_that_is_refused_is_halved_until_the_bad_record_is_found() -> None:
    """The others are stored once each, and the bad ones are named with their place."""
    picky, tally = _Picky(), ImportCount()
    carrier = Carrier(picky, "documents", tally)  # type: ignore[arg-type]
    carrier.carry([(f"d.jsonl:{n}", {"n": n}) for n in range(1_000)])
    assert sorted(picky.stored) == [n for n in range(1_000) if n not in (3, 700)]
    assert carrier.stored == 998
    assert tally.places == {"the body is not valid JSON": ["d.jsonl:3", "d.jsonl:700"]}
