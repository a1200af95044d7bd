"""What keeps its ranking where both towers move: the divergence that is counted, and which documents make probes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.retrieval.encoder import Encoder
from tests.trainer.collection import documents, snapshot
from trainer.data.dataset import read_snapshot
from trainer.fitting import staying

ROWS = np.arange(3)


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def still(*stays: bool) -> staying.Still:
    return staying.Still(unit(3, 0), unit(5, 1), np.array(stays), {})


def test_what_turns_with_its_documents_has_not_moved() -> None:
    """A rotation of the whole space changes every vector and no ranking, so it costs nothing."""
    kept = still(True, True, True)
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))
    now = torch.from_numpy((kept.queries @ turn) @ (kept.documents @ turn).T).float()
    loss = kept.loss(ROWS, np.arange(5), now, scale=20.0)
    assert loss is not None
    assert float(loss) == pytest.approx(0.0, abs=1e-4)


def test_only_what_stays_counts() -> None:
    """The loss is the mean KL divergence over the rows that stay; a row that learns may move for nothing."""
    kept = still(False, True, False)
    was = kept.queries @ kept.documents.T
    now = torch.from_numpy(was.copy())
    now[0] = 0.9
    loss = kept.loss(ROWS, np.arange(5), now, scale=20.0)
    assert loss is not None
    assert float(loss) == pytest.approx(0.0, abs=1e-5)
    now[1, int(was[1].argmax())] -= 0.1
    p, q = (torch.softmax(20.0 * row.double(), dim=0) for row in (torch.from_numpy(was[1]), now[1]))
    moved = kept.loss(ROWS, np.arange(5), now, scale=20.0)
    assert moved is not None
    assert float(moved) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-3)
    assert still(False, False, False).loss(ROWS, np.arange(5), now, scale=20.0) is None


def test_probes_are_made_where_no_taught_query_comes_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is the beginning of a document that no taught query ranks high; where all are reached there is none."""
    given = read_snapshot(snapshot(tmp_path / "s", tier="full"))
    champion = staying.Champion(Encoder.load("auto", device="cpu", threads=1))
    assert staying.far_probes(given, champion, most=10, device="cpu") == {}
    monkeypatch.setattr(staying, "REACH", 1)
    found = staying.far_probes(given, champion, most=10, device="cpu")
    assert 0 < len(found) <= 10
    taught = champion.vectors(sorted(set(given.pairs["query"].to_pylist())))
    reached = set((taught @ documents()[1].T).argmax(axis=1).tolist())
    for text, row in found.items():
        assert given.texts[given.doc_ids[row]].startswith(text)
        assert row not in reached
    assert staying.far_probes(given, champion, most=0, device="cpu") == {}
