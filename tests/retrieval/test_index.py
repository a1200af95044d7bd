"""Exact search, spaces that never meet, and files that survive a crash."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from flywheel.retrieval.index import MANIFEST, Index, SpaceMismatch

DIMENSION = 16


def unit(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def filled(count: int = 50) -> Index:
    index = Index("space-a", DIMENSION)
    index.add([f"d{i}" for i in range(count)], unit(count), [f"h{i}" for i in range(count)])
    return index


def exhaustive(index: Index, query: np.ndarray, k: int) -> list[str]:
    scores = index.all_vectors() @ query
    return [index.doc_ids[row] for row in np.argsort(-scores)[:k]]


def test_search_equals_sorting_every_inner_product() -> None:
    """The nearest documents are those of an exhaustive numpy search, with the same scores."""
    index, queries = filled(), unit(5, seed=1)
    found, scores = index.search(queries, 7)
    assert found == [exhaustive(index, query, 7) for query in queries]
    np.testing.assert_allclose(scores, -np.sort(-(queries @ index.all_vectors().T), axis=1)[:, :7], rtol=1e-5)


def test_adding_an_id_again_replaces_it() -> None:
    """A document's new vector answers, its old one never does, and it counts once."""
    index, fresh = filled(), unit(1, seed=9)
    index.add(["d3"], fresh, ["new"])
    assert len(index) == 50
    assert index.hashes["d3"] == "new"
    np.testing.assert_array_equal(index.vectors(["d3"]), fresh)
    found, _ = index.search(fresh, 50)
    assert found[0][0] == "d3"
    assert len(set(found[0])) == 50


def test_removed_documents_are_never_found() -> None:
    """Search still returns k results, none of them removed, before and after dead rows are compacted."""
    index, query = filled(2_000), unit(1, seed=2)
    for gone in ([f"d{i}" for i in range(100)], [f"d{i}" for i in range(100, 900)]):
        assert index.remove([*gone, "never there"]) == len(gone)
        found, _ = index.search(query, 30)
        assert found[0] == exhaustive(index, query[0], 30)
        assert not set(found[0]) & set(gone)
    assert len(index) == len(index.hashes) == 1_100


def test_vectors_of_another_dimension_are_refused() -> None:
    """Neither documents nor queries of another space get in."""
    with pytest.raises(SpaceMismatch, match="16 dimensions"):
        filled().add(["x"], np.ones((1, 8), np.float32))
    with pytest.raises(SpaceMismatch, match="does not fit index space-a"):
        filled().search(np.ones((1, 8), np.float32), 1)


def test_an_index_of_another_space_is_not_loaded(tmp_path: Path) -> None:
    """A folder with another index_id than asked for is refused by name."""
    filled().save(tmp_path)
    with pytest.raises(SpaceMismatch, match="holds index space-a, not space-b"):
        Index.load(tmp_path, index_id="space-b")


def test_a_saved_index_comes_back_the_same(tmp_path: Path) -> None:
    """Ids, order, vectors and content hashes survive, and only one generation of files stays."""
    index = filled()
    index.save(tmp_path)
    index.remove(["d0"])
    index.save(tmp_path)
    again = Index.load(tmp_path, index_id="space-a")
    assert again.doc_ids == index.doc_ids
    assert again.hashes == index.hashes
    np.testing.assert_array_equal(again.all_vectors(), index.all_vectors())
    assert len(list(tmp_path.iterdir())) == 3


def test_a_crash_before_the_manifest_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process dies before the manifest is replaced, the earlier state loads."""
    index = filled()
    index.save(tmp_path)
    index.remove(["d0"])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        index.save(tmp_path)
    monkeypatch.undo()
    assert len(Index.load(tmp_path)) == 50
    index.save(tmp_path)
    assert len(Index.load(tmp_path)) == 49
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    """Vectors that contradict the manifest raise instead of answering wrongly."""
    filled().save(tmp_path)
    np.save(next(tmp_path.glob("vectors-*.npy")), unit(3))
    with pytest.raises(ValueError, match="damaged"):
        Index.load(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(FileNotFoundError):
        Index.load(tmp_path)


def test_searches_go_on_while_documents_are_added() -> None:
    """Every search that runs beside a writer returns ids of that moment with non-increasing scores."""
    index, failures, stop = filled(), [], threading.Event()

    def search() -> None:
        queries = unit(4, seed=3)
        while not stop.is_set():
            found, scores = index.search(queries, 10)
            if any(len(set(ids)) != 10 for ids in found) or (np.diff(scores, axis=1) > 0).any():
                failures.append(found)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        index.add([f"n{turn}-{i}" for i in range(20)] + ["d1"], unit(21, seed=turn))
        index.remove([f"n{turn}-{i}" for i in range(15)])
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(index) == 50 + 60 * 5


def test_an_empty_index_answers_with_nothing() -> None:
    """No document, no result, no error."""
    found, scores = Index("space-a", DIMENSION).search(unit(2), 10)
    assert found == [[], []]
    assert scores.shape == (2, 0)
