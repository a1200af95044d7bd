"""Hard negatives of the tier `full`: who finds them, and who is spared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests import defaults
from trainer.data import examples
from trainer.data.dataset import Corpus, read_snapshot, write_snapshot
from trainer.data.recipe import Recipe
from trainer.fitting.negatives import by_words, mine

TEXTS = {
    "answer": "the pump leaks because its gasket is worn",
    "near": "the pump leaks because its gasket is old",
    "words": "gasket pump gasket pump for sale",
    "vector": "how machines fail",
    "maybe": "gasket wear in a pump",
    "rejected": "pump catalogue",
    "far": "a poem about rain",
}
# cosines with the query: the right document's is 0.8, so 0.95 of it is 0.76
COSINES = {"answer": 0.8, "near": 0.78, "words": 0.1, "vector": 0.7, "maybe": 0.6, "rejected": 0.5, "far": -0.2}
LABELS = {"answer": "positive", "maybe": "ambiguous", "rejected": "negative"}


@pytest.fixture
def data(tmp_path: Path) -> examples.Examples:
    rows = [
        {"query": "pump gasket leaks", "doc_id": doc_id, "label": label, "weight": 1.0, "posterior": 0.9}
        for doc_id, label in LABELS.items()
    ]
    folder = write_snapshot(
        tmp_path / "s",
        header=defaults.header(),
        recipe=Recipe(dev_share=0.0),
        budget=defaults.training(),
        pairs=pa.Table.from_pylist(rows),
        documents=Corpus(list(TEXTS), vectors()),
    )
    return examples.build(read_snapshot(folder))


def vectors() -> np.ndarray:
    cosine = np.array(list(COSINES.values()), np.float32)
    return np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)


def drawn(data: examples.Examples, texts: list[str] | None = None, **recipe: object) -> set[str]:
    queries = np.array([[1.0, 0.0]], np.float32)
    found = mine(data, Recipe.model_validate(recipe), queries, vectors(), texts)
    return {list(TEXTS)[row] for row in found.draw(0, 99, np.random.default_rng(0))}


def test_the_champion_finds_what_is_similar_and_spares_what_may_be_right(data: examples.Examples) -> None:
    """Of the ranking's top, neither answers, nor ambiguous documents, nor anything within the margin is a negative."""
    assert drawn(data, negative_depth=5) == {"vector", "rejected"}
    assert drawn(data, negative_depth=5, negative_margin=1.0) == {"vector", "rejected", "near"}


def test_bm25_finds_what_shares_words(data: examples.Examples) -> None:
    """A document full of the query's words is a negative though its vector is far, under the same margin."""
    found = drawn(data, list(TEXTS.values()), negative_depth=4, negative_sources=["bm25"])
    assert found == {"words", "rejected"}
    assert by_words(["rain poem"], list(TEXTS.values()), 1).tolist() == [[6]]


def test_what_people_rejected_comes_first(data: examples.Examples) -> None:
    """Where only one negative is drawn, it is always the thumbed-down one."""
    found = mine(data, Recipe(), np.array([[1.0, 0.0]], np.float32), vectors(), None)
    for seed in range(5):
        assert found.draw(0, 1, np.random.default_rng(seed)).tolist() == [list(TEXTS).index("rejected")]
    assert len(set(found.draw(0, 9, np.random.default_rng(0)).tolist())) == len(found)
