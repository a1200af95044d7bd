"""What the product puts into a training snapshot beside the pairs."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flywheel.app import open_installation
from flywheel.events import Document
from flywheel.learning.snapshot import WEAK_SCALE, NothingToLearn
from flywheel.settings.home import Home
from flywheel.settings.load import load
from flywheel.store.training.runs import TrainingRun
from trainer.data.dataset import Snapshot, read_snapshot


def taken(home: Path, environ: dict[str, str], tier: str) -> tuple[Snapshot, np.ndarray]:
    """A run's snapshot, and the champion's vectors of the queries that it has vectors of."""
    with open_installation(Home(home), load(home, environ), threading.Event()) as parts:
        until_ms = parts.store.feedback.latest_ms()
        run = TrainingRun(
            "run-0001", "manual", tier, "started", 1, parent="base", version="v1", until_ms=until_ms, seed=1
        )
        parts.store.runs.start(run, "test")
        parts.learning.gather(run)
        found = read_snapshot(parts.learning.snapshot(run))
        return found, parts.registry.encoder("base").encode_queries(list(found.query_vectors))


def test_probes_are_the_first_words_of_documents(home: Path, environ: dict[str, str]) -> None:
    """As many as the settings say, none of them long, and none where they weigh nothing; a tower reads words alone."""
    found, _ = taken(home, {**environ, "FLYWHEEL__TRAINER__PROBES": "100"}, "query_tower")
    assert 90 <= len(found.probes) <= 100
    assert max(len(text.split()) for text in found.probes) <= 16
    assert not found.query_vectors


def test_the_adapter_gets_the_champions_vectors_of_its_queries(home: Path, environ: dict[str, str]) -> None:
    """Of every query that it trains on, by what people typed; with probes of no weight it gets none."""
    found, again = taken(home, {**environ, "FLYWHEEL__TRAINER__PROBE_WEIGHT": "0"}, "adapter")
    assert found.probes == ()
    assert set(found.query_vectors) == set(found.pairs["query"].to_pylist())
    np.testing.assert_allclose(np.stack(list(found.query_vectors.values())), again, atol=0.01)


def test_pairs_are_judged_by_words_too_in_a_collection_of_a_size_for_it(home: Path, environ: dict[str, str]) -> None:
    """With words the posteriors differ from those without; `exploration.lexical_documents` is the size."""

    def posteriors(limit: str) -> list[float]:
        settings = load(home, {**environ, "FLYWHEEL__EXPLORATION__LEXICAL_DOCUMENTS": limit})
        with open_installation(Home(home), settings, threading.Event()) as parts:
            run = TrainingRun(
                f"run-{limit}", "manual", "query_tower", "started", 1, parent="base", version="v1", seed=1
            )
            run = replace(run, until_ms=parts.store.feedback.latest_ms())
            parts.store.runs.start(run, "test")
            parts.learning.gather(run)
            parts.store.runs.finish(run.run_id, "refused", 2)
            return parts.store.pairs.of(run.run_id)["posterior"].to_pylist()

    assert posteriors("0") != posteriors("200000")


def test_pairs_about_documents_that_are_gone_are_nothing_to_learn(home: Path, environ: dict[str, str]) -> None:
    """Clicks on documents that were deleted since refuse the run with its reason, before anything is trained."""
    with open_installation(Home(home), load(home, environ), threading.Event()) as parts:
        gone = parts.store.documents.ids()
        parts.store.documents.upsert([Document(doc_id, "", "", 4_000_000_000_000, deleted=True) for doc_id in gone], 2)
        run = TrainingRun("run-gone", "manual", "query_tower", "started", 1, parent="base", version="v1", seed=1)
        run = replace(run, until_ms=parts.store.feedback.latest_ms())
        parts.store.runs.start(run, "test")
        with pytest.raises(NothingToLearn) as refused:
            parts.learning.gather(run)
        assert "documents that are gone" in str(refused.value.args[0])


def test_clicks_that_are_read_weakly_are_learned_by_a_softer_softmax(home: Path, environ: dict[str, str]) -> None:
    """It is the setting's where posteriors are learned, lower where every clicked pair is, and what somebody set."""
    scales = []
    for reading, more in (("posterior", {}), ("clicks", {}), ("clicks", {"FLYWHEEL__TRAINER__SCALE": "25"})):
        settings = load(home, {**environ, "FLYWHEEL__TRAINER__PROBES": "0", **more})
        with open_installation(Home(home), settings, threading.Event()) as parts:
            run = TrainingRun("run-soft", "manual", "adapter", "started", 1, parent="base", version="v1", seed=1)
            run = replace(run, until_ms=parts.store.feedback.latest_ms())
            if parts.store.runs.get(run.run_id) is None:
                parts.store.runs.start(run, "test")
                parts.learning.gather(run)
            row = parts.store.checks.latest() or {}
            parts.store.checks.write(row.pop("run_id"), {**row, "reading": reading})
            folder = parts.learning.snapshot(run)
            scales.append(read_snapshot(folder).recipe.scale)
            shutil.rmtree(folder)
    assert scales == [30.0, WEAK_SCALE, 25.0]
