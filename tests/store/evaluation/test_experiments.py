"""Experiments: one live, the others in line, all of it on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.store import Store, StoreError
from flywheel.store.evaluation.experiments import Experiment
from tests.store.make import NOW


def test_one_is_live_and_the_others_wait_across_restarts(path: Path) -> None:
    """A second cannot begin until the first has ended; the queue is in order of asking."""
    with Store.open(path) as store:
        for number, name in enumerate(("x1", "x2", "x3")):
            assert store.experiments.add(Experiment(name, name, "champion", "split", NOW + number))
        assert not store.experiments.add(Experiment("x1", "other", "champion", "split", NOW))
        store.experiments.begin("x1", NOW)
        store.experiments.update("x1", share=0.05, progress={"looks": 3})
    with Store.open(path) as store:
        live = store.experiments.live()
        assert live is not None
        assert (live.experiment_id, live.share, live.progress) == ("x1", 0.05, {"looks": 3})
        assert [waiting.experiment_id for waiting in store.experiments.queued()] == ["x2", "x3"]
        with pytest.raises(StoreError, match="another experiment is live"):
            store.experiments.begin("x2", NOW)
        assert store.experiments.end("x1", "decided", NOW, verdict="reject", reasons=["worse"])
        assert not store.experiments.end("x1", "expired", NOW, verdict="inconclusive", reasons=[])
        store.experiments.begin("x2", NOW)
        ended = store.experiments.get("x1")
        assert ended is not None
        assert (ended.state, ended.verdict, ended.reasons) == ("decided", "reject", ("worse",))
        with pytest.raises(ValueError, match="state"):
            store.experiments.update("x2", state="decided")
