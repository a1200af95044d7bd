"""`flywheel evaluate --clicks`: what a home's own clicks are worth, alone and beside a judged set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.cli import main

DAY_MS = 86_400_000
START_MS = 1_770_000_000_000
QUERIES, DOCUMENTS, SHOWN, PAGES = 60, 12, 8, 1_800


def _good(query: int) -> set[int]:
    """Relevant documents of a query."""
    return {(query + 3 * step) % DOCUMENTS for step in range(3)}


def _records(*, honest: bool, pages: int = PAGES, days: int = 3) -> Iterator[dict[str, Any]]:
    """People look less far down; honest ones click what is relevant more often, others whatever they see."""
    rng = np.random.default_rng(1)
    for number in range(pages):
        query = int(rng.integers(QUERIES))
        worth = np.array([document in _good(query) for document in range(DOCUMENTS)])
        shown = np.argsort(-(worth + rng.normal(0, 1.2, DOCUMENTS)))[:SHOWN]
        page = {"query_id": f"p{number}", "client_id": f"c{number}"}
        stamp = START_MS + number * days * DAY_MS // pages
        yield {**page, "user_query": f"Query {query}", "timestamp": stamp,
               "query_response_hit_ids": [f"d{document}" for document in shown]}  # fmt: skip
        attraction = np.where(worth[shown], 0.75, 0.1) if honest else np.full(SHOWN, 0.3)
        for place in np.flatnonzero(rng.random(SHOWN) < attraction / np.arange(1, SHOWN + 1) ** 0.7):
            target = {"object": {"object_id": f"d{shown[place]}"}, "position": {"ordinal": int(place) + 1}}
            yield {**page, "action_name": "click", "timestamp": stamp + 1_000, "event_attributes": target}


def _home(folder: Path, records: Iterator[dict[str, Any]]) -> Path:
    assert main(["--home", str(folder / "home"), "init"]) == 0
    history = folder / "history.jsonl"
    history.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    assert main(["--home", str(folder / "home"), "import", "feedback", str(history)]) == 0
    return folder / "home"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _home(tmp_path_factory.mktemp("clicks"), _records(honest=True))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grades 2 and 0 of every document for every query, in two splits."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "qrels").mkdir()
    texts = [{"_id": f"q{query}", "text": f"query  {query}"} for query in range(QUERIES)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), "utf-8")
    for split, part in (("train", range(40)), ("test", range(40, QUERIES))):
        rows = [f"q{q}\td{d}\t{2 * (d in _good(q))}" for q in part for d in range(DOCUMENTS)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]), "utf-8")
    return folder


def _answer(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> Any:
    capsys.readouterr()
    code = main(["--home", str(home), "evaluate", "--clicks", *arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out.splitlines()[-1])


def test_clicks_that_mean_something_are_told_from_clicks_that_do_not(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test holds where people click what is relevant, and not where they click whatever they look at."""
    found = _answer(capsys, home)
    assert found["read"]["pages"] == found["read"]["pages_in_all"] == PAGES
    assert found["read"]["people"] == PAGES
    assert found["read"]["queries"] == found["agreement"]["queries"] == QUERIES
    assert found["agreement"]["holds"]
    assert found["agreement"]["clicks"] == found["read"]["clicks"]
    random = _answer(capsys, _home(tmp_path, _records(honest=False)))
    assert not random["agreement"]["holds"]
    assert "chance explains" in random["agreement"]["meaning"]


def test_models_are_held_against_each_other_on_people_held_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model has its log likelihood and perplexities; each day is foretold by head, middle and tail queries."""
    found = _answer(capsys, home, "--forward")
    models = found["held_out"]["models"]
    assert list(models) == ["attraction", "pbm", "ubm", "dbn"]
    assert all(row["low"] <= row["ours_minus_it"] <= row["high"] for row in models.values())
    assert all(1 < value < 2 for row in models.values() for value in row["perplexity"][:SHOWN])
    ahead = found["forward"]
    assert ahead["days"] == 3
    assert sum(ahead[part]["pages"] for part in ("head", "middle", "tail")) == ahead["pages"] < PAGES
    assert ahead["head"]["models"]["attraction"] < 0


def test_a_judged_set_says_how_often_clicks_are_right(
    home: Path, judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Precision of the clicked pairs, by rank and exposure, is what counting the history's own clicks gives."""
    found = _answer(capsys, home, "--judged", str(judged))["judged"]
    pages = {row["query_id"]: row for row in _records(honest=True) if "user_query" in row}
    clicked = {
        (pages[row["query_id"]]["user_query"], row["event_attributes"]["object"]["object_id"])
        for row in _records(honest=True)
        if "action_name" in row
    }
    right = [int(doc[1:]) in _good(int(query.split()[1])) for query, doc in clicked]
    assert found["clicked"]["pairs"] == len(clicked) == sum(row["pairs"] for row in found["clicked"]["by_rank"])
    assert found["clicked"]["right"] == pytest.approx(np.mean(right))
    assert found["queries"] == QUERIES
    assert found["positives"]["pairs"] == 0
    assert "posterior" not in found["ndcg"]
    assert found["ndcg"]["attraction"] > found["ndcg"]["mean_rank"]
    assert found["auc"]["across_queries"]["scores"]["ctr"]["apart"] == 0
    assert sum(row["pairs"] for row in found["by_calibrated_chance"]) == found["pairs"]
    stricter = _answer(capsys, home, "--judged", str(judged), "--grade", "3")["judged"]
    assert stricter["relevant"] == 0
    assert stricter["promise"]["level"] is None


def test_a_set_of_relevant_documents_alone_says_that_the_others_are_not(
    home: Path, judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its zeros the same set says the same of every page, and says how it was read."""
    alone = tmp_path / "alone"
    (alone / "qrels").mkdir(parents=True)
    (alone / "queries.jsonl").write_text((judged / "queries.jsonl").read_text("utf-8"), "utf-8")
    rows = [row for split in ("train", "test") for row in (judged / "qrels" / f"{split}.tsv").read_text().splitlines()]
    (alone / "qrels" / "test.tsv").write_text("\n".join(row for row in rows if row.endswith("\t2")), "utf-8")
    found, whole = (_answer(capsys, home, "--judged", str(folder))["judged"] for folder in (alone, judged))
    assert (found.pop("unlisted_is_irrelevant"), whole.pop("unlisted_is_irrelevant")) == (True, False)
    assert found == whole


def test_a_promise_is_made_or_what_it_takes_is_said(
    home: Path, judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 60 judged queries a level is promised for many pairs; with four nothing is, and the number is named."""
    made = _answer(capsys, home, "--judged", str(judged))["judged"]["promise"]
    assert 0.8 < made["level"] <= made["asked"]
    assert made["pairs_of_the_log"] >= made["pairs"] >= 30
    few = tmp_path / "few"
    (few / "qrels").mkdir(parents=True)
    (few / "queries.jsonl").write_text((judged / "queries.jsonl").read_text("utf-8"), "utf-8")
    rows = (judged / "qrels" / "train.tsv").read_text("utf-8").splitlines()
    (few / "qrels" / "test.tsv").write_text("\n".join(rows[: 1 + 4 * DOCUMENTS]), "utf-8")
    refused = _answer(capsys, home, "--judged", str(few))["judged"]["promise"]
    assert refused["level"] is None
    assert "10 judged queries (there are 4)" in refused["meaning"]
    assert refused["pairs_needed"] >= 30


def test_people_get_one_screen(home: Path, judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json everything that was measured is said in words and tables, in few lines."""
    assert main(["--home", str(home), "evaluate", "--clicks", "--judged", str(judged), "--forward"]) == 0
    printed = capsys.readouterr().out
    for words in ("Do people agree? z", "documents changed places", "perplexity at 1", "head", "Promise: of the"):
        assert words in printed
    assert len(printed.splitlines()) < 60


def test_what_a_run_concluded_is_judged_too(home: Path, judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Posteriors and positives are those of the latest run with pairs, read where the run left them."""
    from flywheel.store.store import Store

    with Store.open(home / "flywheel.duckdb", memory_gb=1.0) as store, store.database.write() as con:
        con.execute(
            "INSERT INTO training_runs BY NAME SELECT 'r1' AS run_id, 'manual' AS trigger, 'adapter' AS tier, "
            "'done' AS state, epoch_ms(0) AS started_at"
        )
        con.execute(
            "INSERT INTO pairs BY NAME SELECT DISTINCT 'r1' AS run_id, query_key, query_key AS query, doc_id, "
            "'positive' AS label, 1.0 AS weight, 0.96 AS posterior, 'clicks' AS source FROM impressions WHERE rank = 1"
        )
    found = _answer(capsys, home, "--judged", str(judged))
    assert found["read"]["positives"] == found["judged"]["positives"]["pairs"] > 0
    assert [row["expected"] for row in found["judged"]["by_posterior"]] == [pytest.approx(0.96)]
    assert "posterior" in found["judged"]["ndcg"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--clicks", "--plan", "0.1"], 2, "--clicks for what"),
        (["--clicks", "--judged", "no-such-folder"], 2, "does not exist"),
    ],
)
def test_wrong_use_names_the_fix(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """Two questions at once, or a folder that is not there, are one line of error."""
    assert main(["--home", str(home), "evaluate", *arguments]) == code
    assert words in capsys.readouterr().err


def test_too_little_is_said(tmp_path: Path, judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No page, no click, and judgements about other documents end with 1 and a sentence; few people, with a reason."""
    home = tmp_path / "empty"
    assert main(["--home", str(home), "init"]) == 0
    assert main(["--home", str(home), "evaluate", "--clicks"]) == 1
    assert "too little feedback: 0 pages" in capsys.readouterr().err
    small = _home(tmp_path, _records(honest=True, pages=6, days=1))
    found = _answer(capsys, small, "--forward")
    assert "too few to hold some out" in found["held_out"]["inconclusive"]
    assert "one day" in found["forward"]["inconclusive"]
    other = tmp_path / "other"
    (other / "qrels").mkdir(parents=True)
    (other / "queries.jsonl").write_text('{"_id": "x", "text": "asked by nobody"}\n', "utf-8")
    (other / "qrels" / "test.tsv").write_text("x\td1\t1\n", "utf-8")
    assert main(["--home", str(small), "evaluate", "--clicks", "--judged", str(other)]) == 1
    assert "nothing to compare" in capsys.readouterr().err


def test_of_many_pages_the_newest_are_read(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """limits.result_rows bounds what is read, and the screen says how many there are."""
    monkeypatch.setenv("FLYWHEEL__LIMITS__RESULT_ROWS", "500")
    found = _answer(capsys, home, "--forward")
    assert (found["read"]["pages"], found["read"]["pages_in_all"]) == (500, PAGES)
    assert main(["--home", str(home), "evaluate", "--clicks"]) == 0
    assert "newest of 1,800 pages" in capsys.readouterr().err


def test_preferences_of_neighbours_check_the_other_pages_clicks(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Honest people prefer what other pages' clicks prefer; without such pages the answer says what brings them."""
    rng = np.random.default_rng(4)

    def swapped() -> Iterator[dict[str, Any]]:
        for record in _records(honest=True):
            if "user_query" in record and rng.random() < 0.3:
                record["query_attributes"] = {"fair_pair": int(rng.integers(1, SHOWN))}
            yield record

    found = _answer(capsys, _home(tmp_path, swapped()))["preferences"]
    assert found["pages"] == pytest.approx(0.3 * PAGES, abs=70)
    assert found["preferences"] >= 30
    assert found["clicks_of_other_pages"]["low"] > 0.5
    assert found["posterior"] is None
    assert "people prefer what other pages' clicks prefer" in found["meaning"]
    assert "exploration.swaps" in _answer(capsys, home)["preferences"]["meaning"]
