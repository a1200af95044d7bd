"""A rehearsal plays the whole wheel with simulated people, and never in a home where real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.cli import main
from flywheel.files.beir import Judged
from flywheel.rehearsal.stage import divide

WORDS = [
    "apple",
    "bridge",
    "candle",
    "desert",
    "engine",
    "forest",
    "guitar",
    "harbor",
    "island",
    "jungle",
    "kettle",
    "ladder",
]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Documents of one subject each, ten queries on each subject; the test split has queries of its own."""
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": word, "text": f"all about the {word}"} for i, word in enumerate(WORDS)]
    asked = [(f"q{i}-{n}", i, f"question {n} on some {word}") for i, word in enumerate(WORDS) for n in range(10)]
    _lines(folder / "corpus.jsonl", documents)
    _lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, _, text in asked])
    for split, wanted in (("train", range(8)), ("test", range(8, 10))):
        lines = [f"{key}\td{i}\t1" for key, i, _ in asked if int(key.rpartition("-")[2]) in wanted]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return folder


def _lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_fifth_is_golden_and_nobody_searches_it() -> None:
    """The two parts are disjoint, together all, and the same for the same seed."""
    ids = tuple(str(number) for number in range(100))
    judged = Judged(ids, ids, tuple({"d": 1.0} for _ in ids))
    searched, golden = divide(judged, seed=3)
    assert (len(searched), len(golden)) == (80, 20)
    assert sorted(searched.ids + golden.ids) == sorted(ids)
    assert divide(judged, seed=3) == (searched, golden)
    assert divide(judged, seed=4) != (searched, golden)


@pytest.mark.slow
def test_a_rehearsal_ends_with_a_verdict_and_figures(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every page and event is stored, the wheel turned once, both models are scored, and the daemon is gone."""
    home = tmp_path / "home"
    command = ["--home", str(home), "simulate", "--beir", str(collection), "--sessions", "150", "--rounds", "1"]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (told,) = result["rounds"]
    assert told["pages"] == 150
    assert told["verdict"] in {"promote", "reject", "inconclusive"}
    assert told["reasons"]
    assert result["split"] == "test"
    assert result["base"]["queries"]["all"] == 2 * len(WORDS)
    assert 0 < result["champion"]["ndcg@10"]["all"] <= 1
    assert not (home / "daemon.json").exists()
    assert main(["--home", str(home), "sql", "select count(*) as n from queries", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 150}]


@pytest.mark.slow
def test_a_home_with_real_feedback_is_left_alone(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Simulated people do not search where real ones did."""
    home, real = tmp_path / "home", tmp_path / "real.jsonl"
    real.write_text('{"query_id": "1", "user_query": "x", "timestamp": "2026-01-01T00:00:00Z"}\n')
    assert main(["--home", str(home), "init"]) == 0
    assert main(["--home", str(home), "import", "feedback", str(real)]) == 0
    assert main(["--home", str(home), "simulate", "--beir", str(collection), "--sessions", "1"]) == 1
    assert "feedback of real people" in capsys.readouterr().err
