"""Labelling tasks go out with the most telling pairs first, and Label Studio's own exports come back as judgements."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flywheel.events import Document
from flywheel.files.annotations import judgements
from flywheel.files.readers import ImportCount, read_annotations
from flywheel.files.writers import label_tasks, write
from flywheel.store.evaluation.decisions import Decision
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.evaluation.shadow import Ranked
from flywheel.store.published.questions import exported as question
from flywheel.store.store import Store
from flywheel.store.training.models import Model
from flywheel.store.training.runs import TrainingRun
from tests import defaults
from tests.experiments.shadow_world import insert

DATA = {"query": "q", "doc_id": "d", "title": "T", "text": "x"}


def annotation(answer: dict[str, Any] | None, who: Any = 1, *, at: str = "2026-01-01T00:00:00Z", **more: Any) -> Any:
    """One annotation with the fields that Label Studio writes."""
    control = {"id": "Yx1", "from_name": "relevance", "to_name": "text", "origin": "manual"}
    kind = next(iter(answer), "") if answer else ""
    result = [{**control, "type": kind, "value": answer}] if answer else []
    plain = {"id": 7, "completed_by": who, "result": result, "was_cancelled": False, "ground_truth": False}
    plain |= {"created_at": at, "updated_at": at, "lead_time": 4.2, "prediction": {}, "result_count": 1, "task": 3}
    return plain | more


def task(*annotations: Any, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """One task of the JSON export."""
    counts = {"total_annotations": len(annotations), "cancelled_annotations": 0, "drafts": [], "predictions": []}
    return {"id": 3, "annotations": list(annotations), "data": data or DATA, "meta": {}, "project": 1, **counts}


def read(*rows: Any) -> tuple[list[float], Counter[str]]:
    reasons: Counter[str] = Counter()

    def skip(reason: str) -> None:
        reasons[reason] += 1

    return [found["grade"] for found in judgements(rows, skip)], reasons


YES, NO = {"choices": ["relevant"]}, {"choices": ["not relevant"]}


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        (YES, 1), (NO, 0), ({"rating": 3}, 3), ({"number": 2.0}, 2), ({"choices": ["2 – mostly"]}, 2),
        ({"choices": ["Highly relevant"]}, 2), ({"choices": ["0"]}, 0),
    ],
)  # fmt: skip
def test_every_control_gives_its_grade(answer: dict[str, Any], grade: float) -> None:
    """Choices by name or leading number, ratings and numbers."""
    assert read(task(annotation(answer))) == ([grade], {})


@pytest.mark.parametrize(
    ("annotations", "grade"),
    [
        ([annotation(YES, 1), annotation(YES, 2), annotation(NO, 3)], 1),
        ([annotation(YES, 1), annotation(NO, 2)], 0),
        ([annotation({"rating": n}, n) for n in (0, 3, 2)], 2),
        ([annotation(YES, 1, at="2026-01-02"), annotation(NO, 1, at="2026-01-01")], 1),
        ([annotation(NO, {"id": 4}), annotation(NO, {"id": 5}), annotation(YES, {"id": 6}, ground_truth=True)], 1),
        ([annotation(YES, 1, was_cancelled=True), annotation(NO, 2)], 0),
    ],
)
def test_annotators_who_differ_have_one_grade(annotations: list[Any], grade: float) -> None:
    """The middle one, the lower at a tie; an annotator's last word; ground truth above all; cancelled ones never."""
    assert read(task(*annotations)) == ([grade], {})


def test_what_nobody_answered_has_its_reason() -> None:
    """Skipped, unanswered, empty and unreadable tasks are told apart, and none of them becomes a grade of 0."""
    found = read(
        task(annotation(YES, was_cancelled=True)),
        task(),
        task(annotation(None)),
        task(annotation({"choices": ["maybe"]})),
        task(annotation({"choices": ["relevant", "not relevant"]})),
        task(annotation({"rating": float("nan")})),
        task(annotation(YES), data={"query": "q"}),
    )
    assert found[0] == []
    assert found[1] == {
        "skipped by its annotators": 1,
        "not annotated": 2,
        "an answer that is no grade: maybe": 1,
        'an answer that is no grade: ["relevant", "not relevant"]': 1,
        "an answer that is no grade: NaN": 1,
        "no column doc_id; it has query": 1,
    }


def test_the_flat_exports_are_read_over_all_annotators(tmp_path: Path) -> None:
    """JSON-MIN and CSV have a line an annotation: lines of one pair are one judgement."""
    rows = [{**DATA, "id": 1, "annotator": n, "relevance": a} for n, a in enumerate(("relevant", "no", "relevant"))]
    rows.append({**DATA, "doc_id": "e", "annotator": 1, "relevance": {"choices": ["relevant"]}})
    (tmp_path / "min.json").write_text(json.dumps(rows))
    found = list(read_annotations(tmp_path / "min.json", ImportCount()))
    assert found == [{"query": "q", "doc_id": "d", "grade": 1}, {"query": "q", "doc_id": "e", "grade": 1}]
    lines = ["query,doc_id,annotator,rating", "q,d,1,3", "q,d,2,1", "q,d,3,1", 'q,e,1,"{""choices"": [""2""]}"']
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert [row["grade"] for row in read_annotations(tmp_path / "a.csv", ImportCount())] == [1, 2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three queries asked 100, 10 and 10 times, four documents each, and their posteriors."""
    with Store.open(tmp_path / "x.duckdb", memory_gb=1, threads=1) as opened:
        opened.runs.start(TrainingRun("r", "manual", "adapter", "done", 0), "me")
        opened.documents.upsert([Document(f"d{n}", f"Title {n}", "text", 1) for n in range(6)], 1)
        for query, pages in (("head", 100), ("tail", 10), ("other", 10)):
            asked = pa.table({"query_id": [f"{query}{n}" for n in range(pages)], "query_key": [query] * pages})
            asked = asked.append_column("text", asked["query_key"])
            for name, value in (("ts", 0), ("ingested_at", 0)):
                asked = asked.append_column(name, pa.array(np.full(pages, value)).cast(pa.timestamp("ms")))
            insert(opened, "queries", asked.append_column("batch", pa.array([1] * pages)))
        sure = {"head": (0.99, 0.5, 0.6), "tail": (0.5, 0.98), "other": (0.5,)}
        rows = [(query, f"d{n}", p) for query, given in sure.items() for n, p in enumerate(given)]
        table = {"query_key": [row[0] for row in rows], "query": [row[0] for row in rows], "run_id": ["r"] * len(rows)}
        table |= {"doc_id": [row[1] for row in rows], "posterior": [row[2] for row in rows]}
        insert(opened, "pairs", pa.table(table | {"label": ["ambiguous"] * len(rows), "weight": [0.0] * len(rows)}))
        yield opened


def exported(store: Store) -> list[tuple[str, str]]:
    return [(row["query"], row["doc_id"]) for row in store.sql.query(question("labels", 20)).to_pylist()]


def test_the_most_telling_pairs_come_first(store: Store) -> None:
    """Undecided pairs before decided ones, busy queries before others, and no query takes all the places."""
    found = exported(store)
    assert found[0] == ("head", "d1")
    assert found[1] == ("head", "d2")
    assert found.index(("tail", "d0")) < found.index(("tail", "d1"))
    assert set(found[2:5]) == {("head", "d0"), ("tail", "d0"), ("other", "d0")}
    assert found[-1] == ("tail", "d1")


def test_where_the_models_differ_comes_before_where_they_agree(store: Store) -> None:
    """A challenger's shadow moves up what it would place differently, and brings documents that no page showed."""
    before = exported(store)
    assert before.index(("other", "d0")) < before.index(("tail", "d0"))
    store.models.add(Model("v1", "adapter", "p", "i", 0))
    store.decisions.decide(Decision("c", "initial", "v1", "me", 0, (), alias="challenger"))
    store.experiments.add(Experiment("e", "v1", "base", "shadow", 0))
    store.shadows.begin("e", "r", 0)
    lists = [
        Ranked("other", "other", ["d0", "d3"], ["d0", "d3"], 1.0, 1.0),
        Ranked("tail", "tail", ["d4", "d0"], ["d5", "d4"], 0.5, 0.5),
    ]
    store.shadows.add_rankings("e", "r", lists, defaults.reading())
    after = exported(store)
    assert after.index(("tail", "d0")) < after.index(("other", "d0"))
    assert ("tail", "d5") in after
    (row,) = [row for row in store.sql.query(question("labels", 20)).to_pylist() if row["doc_id"] == "d5"]
    assert (row["champion_rank"], row["challenger_rank"]) == (None, 1)


def test_labels_go_out_and_come_back(store: Store, tmp_path: Path) -> None:
    """Exported tasks that two annotators filled in are judgements of the same pairs, and are not asked for again."""
    path = tmp_path / "labels.json"
    asked = exported(store)
    assert write(label_tasks(store.sql.query(question("labels", 20))), path) == len(asked)
    done = [
        task(annotation(YES, 1), annotation(YES, 2), data=given["data"]) for given in json.loads(path.read_text())[:2]
    ]
    path.write_text(json.dumps([*done, task(annotation(NO, was_cancelled=True))]))
    tally = ImportCount()
    back = list(read_annotations(path, tally))
    assert [(row["query"], row["doc_id"], row["grade"]) for row in back] == [(*pair, 1.0) for pair in asked[:2]]
    assert (tally.read, tally.reasons) == (3, {"skipped by its annotators": 1})
    rows = [(row["query"], row["doc_id"], row["grade"]) for row in back]
    store.golden.add("golden", "annotations", {"head": "head"}, rows, 1)
    assert exported(store) == asked[2:]
