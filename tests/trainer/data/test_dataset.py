"""Snapshots come back as they were written; what is held out never trains; duplicates merge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests import defaults
from trainer.data import examples
from trainer.data.dataset import Corpus, held_out, read_snapshot, write_snapshot
from trainer.data.recipe import Header, Recipe

HERE = Path(__file__).parent
HEADER = Header("run-1", "v1", "base", "champion", "base", "space-a", seed=3, tier="query_tower")
DOC_IDS = [f"d{i}" for i in range(6)]
VECTORS = np.eye(6, dtype=np.float32)


def row(query: str, doc_id: str, label: str = "positive", **more: object) -> dict[str, object]:
    return {"query": query, "doc_id": doc_id, "label": label, "weight": 1.0, "posterior": 0.9, "source": "new",
            "split": "train", **more}  # fmt: skip


def write(folder: Path, rows: list[dict[str, object]], **more: object) -> Path:
    return write_snapshot(
        folder, header=HEADER, recipe=Recipe(**more), budget=defaults.training(minutes=5),
        pairs=pa.Table.from_pylist(rows), documents=Corpus(DOC_IDS, VECTORS),
    )  # fmt: skip


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    """Header, recipe, budget, pairs and vectors survive; the id names the content, not the folder."""
    one = read_snapshot(write(tmp_path / "a", [row("q", "d1")], steps=7))
    two = read_snapshot(write(tmp_path / "b", [row("q", "d1")], steps=7))
    other = read_snapshot(write(tmp_path / "c", [row("q", "d2")], steps=7))
    assert (one.header, one.recipe.steps, one.budget.minutes) == (HEADER, 7, 5)
    assert one.pairs.to_pylist()[0]["doc_id"] == "d1"
    np.testing.assert_array_equal(one.vectors, VECTORS)
    assert one.snapshot_id == two.snapshot_id != other.snapshot_id


def test_a_snapshot_of_version_0_1_is_read(tmp_path: Path) -> None:
    """A run that 0.1 began goes on after an upgrade by the recipe that it began with; unknown keys are refused."""
    folder, old = write(tmp_path / "a", [row("q", "d1")]), json.loads((HERE / "snapshot_0_1.json").read_text("utf-8"))
    (folder / "snapshot.json").write_text(json.dumps(old), "utf-8")
    found = read_snapshot(folder)
    assert (found.header, found.budget) == (HEADER, defaults.training(minutes=5))
    assert found.recipe == Recipe(steps=7, matryoshka=(192, 96), max_seq_length=256)
    assert json.loads(found.recipe.model_dump_json()) == old["recipe"]
    for part in ("recipe", "budget"):
        (folder / "snapshot.json").write_text(json.dumps({**old, part: {**old[part], "unheard_of": 1}}), "utf-8")
        with pytest.raises(ValueError, match="unheard_of"):
            read_snapshot(folder)


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    """No positive pair about an indexed document: no snapshot, and a reason."""
    for rows in ([row("q", "unknown")], [row("q", "d1", "ambiguous")]):
        with pytest.raises(ValueError, match="nothing to learn from"):
            write(tmp_path / "a", rows)
    assert not (tmp_path / "a").exists()


def test_a_complete_snapshot_is_never_overwritten(tmp_path: Path) -> None:
    """The second run cannot change what the first one was trained on."""
    write(tmp_path / "a", [row("q", "d1")])
    with pytest.raises(ValueError, match="already holds a snapshot"):
        write(tmp_path / "a", [row("q", "d2")])


def test_the_hold_out_is_by_hash_and_about_its_share() -> None:
    """The same key always gets the same answer; a tenth of many keys is held out; kinds are independent."""
    keys = [f"key {i}" for i in range(20_000)]
    out = [held_out(key, 0.1, kind="query") for key in keys]
    assert out == [held_out(key, 0.1, kind="query") for key in keys]
    assert 0.09 < np.mean(out) < 0.11
    both = np.mean([a and held_out(key, 0.1, kind="document") for key, a in zip(keys, out, strict=True)])
    assert 0.005 < both < 0.015


def test_what_is_held_out_neither_trains_nor_counts_as_wrong(tmp_path: Path) -> None:
    """Held-out and ambiguous documents leave a query's softmax; held-out queries are scored, by part."""
    rows = [
        row("trains", "d0"), row("trains", "d1", split="dev"), row("trains", "d2", "ambiguous"),
        row("held, seen", "d0", split="dev"), row("held, unseen", "d4", split="dev"),
    ]  # fmt: skip
    data = examples.build(read_snapshot(write(tmp_path / "a", rows)))
    place = {query: number for number, query in enumerate(data.queries)}
    assert data.new.tolist() == [place["trains"]]
    assert data.targets.of(place["trains"]).tolist() == [0]
    assert data.masked.of(place["trains"]).tolist() == [1, 2]
    assert data.dev_seen.tolist() == [place["held, seen"]]
    assert data.dev_unseen.tolist() == [place["held, unseen"]]
    assert data.trained_documents == 1


def test_targets_share_by_weight_and_a_query_weighs_its_strongest(tmp_path: Path) -> None:
    """Shares are proportional to weight and sum to 1; a pair that is both new and replayed counts once, as new."""
    rows = [row("q", "d0", weight=0.9), row("q", "d1", weight=0.3), row("q", "d0", weight=0.5, source="replay")]
    data = examples.build(read_snapshot(write(tmp_path / "a", rows)))
    np.testing.assert_allclose(data.targets.values, [0.75, 0.25], rtol=1e-6)
    assert data.weight.tolist() == [pytest.approx(0.9)]
    assert (data.new.tolist(), data.replayed.tolist()) == ([0], [])


def test_what_is_only_masked_makes_no_query_new(tmp_path: Path) -> None:
    """Ambiguous and rejected documents come with every run: a query whose positives are all replayed is replayed."""
    rows = [
        row("old", "d0", source="replay"), row("old", "d1", "ambiguous"), row("old", "d2", "negative"),
        row("more", "d0", source="replay"), row("more", "d1"),
    ]  # fmt: skip
    data = examples.build(read_snapshot(write(tmp_path / "a", rows)), variants=4, most=8)
    assert [data.queries[place] for place in data.replayed] == ["old"]
    assert [data.queries[place] for place in data.new] == ["more"]
    assert data.masked.of(int(data.replayed[0])).tolist() == [1]


def test_anchors_join_every_step_and_teach_nothing(tmp_path: Path) -> None:
    """A step has its anchor queries beside its own; they carry no target and no weight."""
    folder = write_snapshot(
        tmp_path / "a", header=HEADER, recipe=Recipe(batch_size=4), budget=defaults.training(),
        pairs=pa.Table.from_pylist([row(f"q{i}", f"d{i}") for i in range(6)]), documents=Corpus(DOC_IDS, VECTORS),
        anchors=pa.table({"query": ["stay", "put"], "doc_id": pa.nulls(2, pa.string())}),
    )  # fmt: skip
    plan = examples.plan(read_snapshot(folder), steps=5)
    anchors = set(plan.examples.anchors.tolist())
    assert {plan.examples.queries[row] for row in anchors} == {"stay", "put"}
    assert [len(anchors & set(step.tolist())) for step in plan.steps] == [1] * 5
    assert all(3 <= len(step) <= 5 for step in plan.steps)
    assert plan.examples.weight[list(anchors)].tolist() == [0, 0]


def test_probes_join_every_step_and_teach_nothing(tmp_path: Path) -> None:
    """A step has its probes beside its own queries; one that is a known query or an anchor too is no probe."""
    folder = write_snapshot(
        tmp_path / "a", header=HEADER, recipe=Recipe(batch_size=4, dev_share=0), budget=defaults.training(),
        pairs=pa.Table.from_pylist([row(f"q{i}", f"d{i}") for i in range(6)]),
        documents=Corpus(DOC_IDS, VECTORS, probes=["q1", "stay", "one", "two"]),
        anchors=pa.table({"query": ["stay"], "doc_id": pa.nulls(1, pa.string())}),
    )  # fmt: skip
    plan = examples.plan(read_snapshot(folder), steps=5)
    probes = set(plan.examples.probes.tolist())
    assert {plan.examples.queries[row] for row in probes} == {"one", "two"}
    assert [len(probes & set(step.tolist())) for step in plan.steps] == [1] * 5
    assert plan.examples.weight[list(probes)].tolist() == [0, 0]
