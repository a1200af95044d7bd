"""`flywheel gate`: three real models, three exit codes, and the files that pipelines read; no home anywhere."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from flywheel.cli import main
from tests.commands.proving.models import BAD, NUDGED, collection, spoilt


@pytest.fixture(autouse=True)
def _away_from_any_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("model", "against", "code", "verdict"),
    [("base", BAD, 0, "pass"), (BAD, "base", 1, "fail"), (NUDGED, "base", 3, "undecided")],
)
def test_three_models_end_with_three_codes(
    model: str | float,
    against: str | float,
    code: int,
    verdict: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A better model ends with 0, a worse one with 1, one that can hardly be told from the other with 3."""
    names = [name if isinstance(name, str) else spoilt(name) for name in (model, against)]
    judged = collection(tmp_path / "judged")
    assert main(["gate", "--model", names[0], "--against", names[1], "--beir", str(judged), "--json"]) == code
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["verdict"], found["exit_code"]) == (verdict, code)
    assert found["collections"][0]["queries"] == 64
    assert not (tmp_path / "flywheel-home").exists()


def test_too_few_judged_queries_are_undecided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten judged queries decide nothing, and the reason says how many would."""
    judged = collection(tmp_path / "judged", queries=10)
    assert main(["gate", "--model", "bm25", "--against", "bm25", "--beir", str(judged)]) == 3
    assert "10 judged queries" in capsys.readouterr().out


def test_a_zip_is_read_as_its_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive gives the same figures as what was packed, wherever the collection stands in it."""
    judged = collection(tmp_path / "judged")
    with zipfile.ZipFile(tmp_path / "judged.zip", "w") as archive:
        for path in judged.rglob("*.*"):
            archive.write(path, f"inner/{path.relative_to(judged)}")
    found = []
    for source in (judged, tmp_path / "judged.zip"):
        main(["gate", "--model", "bm25", "--against", "bm25", "--beir", str(source), "--json"])
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert found[0] == found[1]
    assert found[0]["collections"][0]["means"]["bm25"]["ndcg@10"] > 0.9


def test_vectors_are_kept_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run encodes no document, and says the same."""
    from flywheel.retrieval.encoder import Encoder

    call = ["gate", "--model", "base", "--against", "bm25", "--beir", str(collection(tmp_path / "judged"))]
    call += ["--cache", str(tmp_path / "vectors"), "--json"]
    code, first = main(call), capsys.readouterr().out
    monkeypatch.setattr(Encoder, "encode_documents", lambda *_, **__: pytest.fail("encoded again"))
    monkeypatch.setattr(Encoder, "check", lambda _: None)
    assert (main(call), capsys.readouterr().out) == (code, first)


def test_pipelines_get_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JUnit, Markdown and SARIF tell of the same failure, with the collection and the model's path."""
    judged = collection(tmp_path / "judged")
    shutil.copytree(spoilt(BAD), tmp_path / "new")
    call = ["gate", "--model", "new", "--against", "base", "--beir", str(judged), "--beside", "bm25"]
    assert main([*call, "--junit", "g.xml", "--markdown", "g.md", "--sarif", "g.sarif"]) == 1
    failures = [case.get("name") for case in ET.parse("g.xml").iter("testcase") if case.find("failure") is not None]
    assert "better than base" in failures
    shown = Path("g.md").read_text("utf-8")
    assert "not better" in shown
    assert "| collection | queries | metric | against | model | difference | 95 % | bm25 |" in shown
    log = json.loads(Path("g.sarif").read_text("utf-8"))
    locations = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in log["runs"][0]["results"]]
    assert {"uri": "new"} in locations


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("corpus.jsonl", "corpus.jsonl (or .gz) is missing"),
        ("queries.jsonl", "queries.jsonl (or .gz) is missing"),
        ("qrels/test.tsv", "has no split 'test'"),
    ],
)
def test_a_folder_that_is_no_collection_is_named(
    broken: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be judged ends with 2 and says what is missing: a pipeline must not take it for a worse model."""
    judged = collection(tmp_path / "judged")
    (judged / broken).unlink()
    assert main(["gate", "--model", "bm25", "--against", "bm25", "--beir", str(judged)]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("argument", ["--model", "--against"])
def test_a_folder_that_is_no_model_is_named(argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same holds of the models."""
    names = {"--model": "bm25", "--against": "bm25", argument: str(tmp_path)}
    judged = collection(tmp_path / "judged")
    assert main(["gate", *(word for pair in names.items() for word in pair), "--beir", str(judged)]) == 2
    assert "no SentenceTransformer folder" in capsys.readouterr().err


def test_judgements_of_absent_documents_decide_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Queries whose relevant documents the corpus lacks are left out and counted; where none is left, it says so."""
    judged = collection(tmp_path / "judged")
    qrels = judged / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text("utf-8").replace("\tvalve-", "\tgone-"), "utf-8")
    call = ["gate", "--model", "bm25", "--against", "bm25", "--beir", str(judged), "--json"]
    assert main(call) == 3
    out = capsys.readouterr()
    assert json.loads(out.out.splitlines()[-1])["collections"][0]["queries"] == 56
    assert "8 × a query without a relevant document in the corpus" in out.err
    qrels.write_text("q-rotor-0\tgone\t1\n", "utf-8")
    assert main(call) == 2
    assert "nothing can be judged" in capsys.readouterr().err


def test_no_home_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of a home, even broken ones, do not matter."""
    monkeypatch.setenv("FLYWHEEL__PROMOTION__ALPHA", "nonsense")
    monkeypatch.setenv("FLYWHEEL_HOME", os.devnull + "/none")
    judged = collection(tmp_path / "judged")
    assert main(["gate", "--model", "bm25", "--against", "bm25", "--beir", str(judged)]) == 3
