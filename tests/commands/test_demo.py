"""What the demo tells at its end follows from the figures: who is better where, what was promoted, what improved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from flywheel.commands.demo import _results, _show
from flywheel.commands.scoring import Bench
from flywheel.files.beir import Judged
from flywheel.gates.rankings import Vectors
from flywheel.retrieval.encoder import Encoder
from flywheel.settings.load import Trainer

AXES = {"copy": [1.0, 0.0], "sort": [0.0, 1.0]}
JUDGED = Judged(("q1", "q2"), ("clone a list", "order a list"), ({"copy": 2.0}, {"sort": 2.0}))
MODELS: list[dict[str, Any]] = [
    {"version": "base", "alias": None, "parent": None, "path": "base"},
    {"version": "v1", "alias": "champion", "parent": "base", "path": "v1"},
]
TURN = {"round": 1, "pages": 5, "events": 3, "messages_per_second": 8.0, "candidate": "v1", "verdict": "promote"}


class Knowing:
    """The base model takes every question for one about sorting; the trained one tells them apart."""

    index_id = "space"

    def __init__(self, path: str) -> None:
        self.trained = path == "v1"

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        words = ["copy" if self.trained and "clone" in text else "sort" for text in texts]
        return np.array([AXES[word] for word in words], dtype=np.float32)

    def encode_documents(self, texts: Sequence[str], *, progress: Callable[[int, int], None]) -> Vectors:
        del progress
        return np.array([AXES[text] for text in texts], dtype=np.float32)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Bench, "_load", lambda _, path: cast(Encoder, Knowing(path)))
    return Bench(Trainer(), tmp_path, {word: word for word in AXES}, JUDGED, frozenset({"copy"}), False, print)


def test_the_table_has_every_model_and_what_improved(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Base, challengers and champion are scored, seen and unseen apart; an improved question shows both rankings."""
    result = _results(bench, MODELS, [{**TURN, "reasons": ["a significant gain"]}])
    assert list(result["models"]) == ["base", "v1", "champion"]
    assert result["models"]["base"]["mrr@10"] == {"all": 0.75, "seen": 0.5, "unseen": 1.0}
    assert result["models"]["champion"]["mrr@10"]["all"] == 1.0
    assert (result["promotions"], result["closed"]) == (1, True)
    assert [change["text"] for change in result["improved"]] == ["clone a list"]
    _show({**result, "home": "here", "seconds": 1.0})
    printed = capsys.readouterr().out
    assert "clone a list" in printed
    assert "flywheel --home here models" in printed
    assert "flywheel --home here rollback" in printed
    assert "finds 100.0% of the answers" in printed
    assert max(len(line) for line in printed.splitlines() if "held-out" in line or "@10" in line) <= 80
    assert "No gain was significant" not in printed


def test_no_promotion_is_said_and_no_candidate_is_a_failure(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """An inconclusive round closes the loop without a promotion; a round without a candidate does not close it."""
    undecided = {**TURN, "verdict": "inconclusive", "reasons": ["too few queries"]}
    result = _results(bench, MODELS, [undecided])
    assert (result["promotions"], result["closed"]) == (0, True)
    _show({**result, "home": "here", "seconds": 1.0})
    printed = capsys.readouterr().out
    assert "No gain was significant, so nothing was promoted" in printed
    assert "rollback" not in printed, "there is nothing to go back to"
    assert _results(bench, MODELS, [{**undecided, "candidate": None}])["closed"] is False
