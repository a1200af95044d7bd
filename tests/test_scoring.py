"""`flywheel evaluate` finds the model that is meant, and trusts an index only for the very same content and space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest

from flywheel.beir import Judged
from flywheel.commands.scoring import Bench, model_path
from flywheel.config import Trainer
from flywheel.encoder import Encoder
from flywheel.evaluate import Vectors
from flywheel.index import Index
from flywheel.store.rows import content_hash

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
