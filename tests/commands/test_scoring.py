"""`flywheel evaluate` finds the model that is meant, and trusts an index only for the very same content and space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest

from flywheel.commands.scoring import Bench, model_path
from flywheel.files.beir import Judged
from flywheel.gates.rankings import Vectors
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.index import Index
from flywheel.settings.load import Trainer
from flywheel.store.feedback.rows import content_hash

CORPUS = {"a": "first", "b": "second", "c": "third"}
MODELS: list[dict[str, Any]] = [
    {"version": "base", "alias": None, "parent": None, "path": "/m/base"},
    {"version": "v1", "alias": "champion", "parent": "base", "path": "/m/v1"},
]


class Counting:
    """An encoder of one space that says what it was asked to encode."""

    index_id = "space"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_documents(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> Vectors:
        self.asked += texts
        return np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (len(texts), 1))


def _bench(indexes: Path) -> Bench:
    return Bench(Trainer(), indexes, CORPUS, Judged((), (), ()), frozenset(), False, lambda *_: None)


def _index(folder: Path, hashes: Sequence[str]) -> None:
    index = Index("space", 2)
    index.add(["a", "b"], np.array([[1, 0], [1, 0]], dtype=np.float32), hashes)
    index.save(folder / "space")


def test_vectors_of_the_same_content_are_reused_and_no_others(tmp_path: Path) -> None:
    """A document whose text changed since it was indexed is encoded again, and so is one that is not in the index."""
    _index(tmp_path, [content_hash("first"), content_hash("second, as it was")])
    encoder = Counting()
    vectors = _bench(tmp_path)._vectors(cast(Encoder, encoder))
    assert encoder.asked == ["second", "third"]
    assert vectors.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_an_index_of_another_space_is_not_touched(tmp_path: Path) -> None:
    """Vectors of two spaces never meet."""
    _index(tmp_path, [content_hash("first"), content_hash("second")])
    encoder = Counting()
    encoder.index_id = "other"
    _bench(tmp_path)._vectors(cast(Encoder, encoder))
    assert encoder.asked == list(CORPUS.values())


class Directions(Counting):
    """Queries go where it is told."""

    def __init__(self, *directions: tuple[float, float]) -> None:
        super().__init__()
        self.directions = directions

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.array(self.directions, dtype=np.float32)

    def encode_documents(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> Vectors:
        return np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)


def test_a_comparison_shows_wins_and_losses_with_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query that moved stands with both rankings, their titles and grades; wins and losses are apart."""
    judged = Judged(("q1", "q2", "q3"), ("one", "two", "three"), ({"a": 1.0}, {"b": 1.0}, {"c": 2.0, "b": 0.0}))
    bench = Bench(Trainer(), tmp_path, CORPUS, judged, frozenset({"a"}), False, lambda *_: None, {"a": "A", "b": "B"})
    models = {"/m/base": Directions((0, 1), (0, 1), (0, 1)), "/m/v1": Directions((1, 0), (1, 0), (0, 1))}
    monkeypatch.setattr(Bench, "_load", lambda _, path: models[path])
    found = bench.compare(MODELS, "v1", "base")
    assert [(move["id"], move["seen"]) for move in found["wins"]] == [("q1", True)]
    assert [(move["id"], move["seen"]) for move in found["losses"]] == [("q2", False)]
    assert found["wins"][0]["hits_before"][0] == {"doc_id": "b", "title": "B", "grade": None}
    assert found["wins"][0]["hits_after"][0] == {"doc_id": "a", "title": "A", "grade": 1.0}
    assert {move["id"] for move in found["moved"]} == {"q1", "q2"}
    counts = found["differences"]["ndcg@10"]["all"]
    assert (counts["better"], counts["worse"], counts["equal"]) == (1, 1, 1)


@pytest.mark.parametrize(("name", "path"), [("champion", "/m/v1"), ("v1", "/m/v1"), ("base", "/m/base")])
def test_a_model_is_found_by_role_or_version(name: str, path: str) -> None:
    """champion and base are roles, anything else is a version."""
    assert model_path(MODELS, name) == path


def test_base_is_there_before_the_first_run() -> None:
    """Where nothing is registered yet, base is the model that the settings name."""
    assert model_path([], "base") == "auto"


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    """Whoever mistypes a version sees the right ones."""
    with pytest.raises(click.ClickException, match=r"no model 'v2'.*base, v1"):
        model_path(MODELS, "v2")
