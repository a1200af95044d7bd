"""A probability sample of what was learned goes out, and its answers say how much of it is right."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.daemon.intake.sampled import precision_of
from flywheel.events import Document
from flywheel.files.readers import ImportCount, read_annotations
from flywheel.files.writers import label_tasks, write
from flywheel.store import Store
from flywheel.store.published.sampling import sample
from flywheel.store.training.runs import TrainingRun
from tests.experiments.shadow_world import insert
from tests.store.make import NOW, batch, query

QUERIES, WRONG = 60, 0.1


@pytest.fixture
def learned(store: Store) -> Store:
    """Four positives for each of 60 queries at ranks 1 to 4, a negative, an explicit one, and one that is deleted."""
    rng = np.random.default_rng(5)
    store.runs.start(TrainingRun("r", "manual", "adapter", "done", 0), "me")
    names = [f"d{n}" for n in range(7)]
    store.documents.upsert([Document(doc, "Title", "text", 1, deleted=doc == "d6") for doc in names], 1)
    pages = [query(f"p{n}", text=f"query {n}", hit_ids=tuple(names)) for n in range(QUERIES)]
    store.feedback.ingest(batch(queries=pages), "c", NOW)
    kinds = [("positive", "clicks")] * 4 + [("negative", "explicit"), ("positive", "explicit"), ("positive", "clicks")]
    rows = [(f"query {n}", doc, *kind) for n in range(QUERIES) for doc, kind in zip(names, kinds, strict=True)]
    columns = dict(zip(("query_key", "doc_id", "label", "source"), zip(*rows, strict=True), strict=True))
    table = {**columns, "query": columns["query_key"], "run_id": ["r"] * len(rows), "weight": [1.0] * len(rows)}
    insert(store, "pairs", pa.table({**table, "posterior": rng.uniform(0.6, 1, len(rows))}))
    return store


def drawn(store: Store, limit: int, seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.sql.query(sample(limit, seed)).to_pylist()
    return rows


def relevant(row: dict[str, Any]) -> bool:
    """Lower ranks are wrong more often."""
    return (int(row["query"].split()[1]) * 7 + int(row["doc_id"][1])) % 10 >= int(row["doc_id"][1])


@pytest.mark.slow
def test_every_pair_is_drawn_as_often_as_its_chance_says(learned: Store) -> None:
    """Over 60 seeds each positive from clicks comes at its inclusion rate, no other pair ever, and seeds repeat."""
    count, chance = Counter[tuple[str, str]](), {}
    for seed in range(60):
        for row in drawn(learned, 60, seed):
            count[row["query"], row["doc_id"]] += 1
            chance[row["query"], row["doc_id"]] = row["inclusion"]
    assert {doc for _, doc in count} == {"d0", "d1", "d2", "d3"}
    assert len(count) == QUERIES * 4
    apart = [(count[pair] - 60 * p) / np.sqrt(60 * p * (1 - p)) for pair, p in chance.items() if p < 1]
    assert np.mean(apart) == pytest.approx(0, abs=0.2)
    assert np.std(apart) == pytest.approx(1, abs=0.2)
    assert drawn(learned, 60, 3) == drawn(learned, 60, 3) != drawn(learned, 60, 4)


def test_strata_are_by_chance_and_rank_and_add_up(learned: Store) -> None:
    """Each is drawn from, with weights that add up to the whole population, and about as many as asked."""
    rows = drawn(learned, 80, 0)
    assert {row["stratum"].split(", ")[1] for row in rows} == {"rank 1", "ranks 2 and 3", "lower ranks"}
    assert len({row["stratum"] for row in rows}) == 12
    assert sum(1 / row["inclusion"] for row in rows) == pytest.approx(QUERIES * 4)
    assert {row["population"] for row in rows} == {QUERIES * 4}
    assert len(rows) == pytest.approx(80, abs=12)


@pytest.mark.parametrize("form", ["studio", "csv", "min"])
def test_answers_come_back_as_an_estimate_with_its_bound(learned: Store, tmp_path: Path, form: str) -> None:
    """Label Studio's JSON and JSON-MIN, and the CSV with its column filled in, all give the same precision."""
    answer = learned.sql.query(sample(120, 1))
    path = tmp_path / ("done.csv" if form == "csv" else "done.json")
    assert write(answer if form == "csv" else label_tasks(answer), path) == answer.num_rows
    rows = answer.to_pylist()
    if form == "csv":
        with path.open(newline="") as file:
            given = list(csv.DictReader(file))
        assert {row["grade"] for row in given} == {""}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(given[0]))
            writer.writeheader()
            writer.writerows({**row, "grade": int(relevant(row))} for row in given)
    else:
        tasks = [task["data"] for task in json.loads(path.read_text())]
        if form == "min":
            done = [{**data, "relevance": "relevant" if relevant(data) else "not relevant"} for data in tasks]
        else:
            done = [
                {"data": data, "annotations": [{"result": [{"value": {"rating": int(relevant(data))}}]}]}
                for data in tasks
            ]
        path.write_text(json.dumps(done))
    tally = ImportCount()
    found = precision_of(list(read_annotations(path, tally)))
    assert found is not None
    assert (found["run_id"], found["answers"], found["population"]) == ("r", len(rows), QUERIES * 4)
    truth = np.mean([relevant({"query": f"query {n}", "doc_id": f"d{d}"}) for n in range(QUERIES) for d in range(4)])
    by_hand = sum(relevant(row) / row["inclusion"] for row in rows) / (QUERIES * 4)
    assert found["precision"] == pytest.approx(by_hand)
    assert found["bound"] < truth < found["precision"] + 0.1
    assert f"at least {found['bound']:.1%}" in found["meaning"]


def test_answers_that_are_of_no_sample_say_nothing_of_precision() -> None:
    """The most telling pairs are no sample; and a few answers of one give no estimate, with the reason."""
    assert precision_of([{"query": "q", "doc_id": "d", "grade": 1.0}]) is None
    few = {"sample": "r 0", "stratum": "s", "stratum_size": 9, "population": 9, "inclusion": 0.5, "grade": 1.0}
    found = precision_of([few] * 3)
    assert found is not None
    assert (found["precision"], found["bound"]) == (None, None)
    assert "3 answered pairs are too few" in found["meaning"]


def test_without_a_run_there_is_nothing_to_draw(store: Store) -> None:
    """An empty installation draws an empty sample."""
    assert drawn(store, 10, 0) == []
