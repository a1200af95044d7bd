"""A real daemon on a real broker: people are split between two real models, and the better one becomes champion."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import Daemon
from flywheel.app import open_local
from flywheel.broker.embedded import EmbeddedBroker
from flywheel.broker.producer import Producer
from flywheel.rehearsal import corpus, questions
from flywheel.rehearsal.people import People
from flywheel.rehearsal.product import Audience, BrokerEvents, HttpSearch, play
from flywheel.retrieval.registry import MANIFEST
from flywheel.settings.home import Home
from flywheel.settings.load import Kafka
from flywheel.store.evaluation.experiments import Experiment

pytestmark = pytest.mark.slow
SETTINGS = {
    "analytics.publish_seconds": "1",  # SQL is asked right after what it should tell
    "retrain.enabled": "false",
    "serving.port": "0",
    "serving.page_log_timeout_ms": "20000",
    "signals.watermark_minutes": "0",
    "promotion.stages": '["interleaving", "split"]',
    "promotion.ramp": "[0.5]",
    "promotion.min_users": "30",
    "promotion.min_days": "0",
    "promotion.look_seconds": "0.5",
    "promotion.alpha": "0.4",
    "promotion.holdback": "0.3",
}


def damaged(home: Path) -> None:
    """A version v1 that has forgotten which word means what."""
    from safetensors.numpy import load_file, save_file

    from flywheel.retrieval.encoder import Encoder

    folder = Path(shutil.copytree(home / "models" / "base", home / "models" / "v1"))
    manifest = json.loads((folder / MANIFEST).read_text())
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("word_embeddings.weight"))
    rows = np.random.default_rng(0).permutation(len(weights[name]))
    save_file(
        weights | {name: np.ascontiguousarray(weights[name][rows])}, folder / "model.safetensors", {"format": "pt"}
    )
    encoder = Encoder.load(folder, device="cpu", bf16="auto", max_seq_length=256)
    manifest |= {"version": "v1", "tier": "full", "parent": "base"}
    manifest |= {"index_id": encoder.index_id, "document_tower_id": encoder.document_tower_id}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def prepare(daemon: Daemon) -> Audience:
    """v1 is the champion and base, which is far better, waits in the queue."""
    Home(daemon.home).init()
    everything = {document.doc_id: document for document in corpus.build().documents}
    asked = questions.load(everything).asked[:40]
    kept = list(dict.fromkeys([doc for item in asked for doc in item.answers] + list(everything)))[:150]
    with open_local(daemon.home, daemon.environ) as local:
        records = [{"doc_id": key, "title": everything[key].title, "text": everything[key].text[:80]} for key in kept]
        local.import_records("documents", records)
        local._in.indexers.of("base").catch_up()
        damaged(daemon.home)
        local._in.registry.adopt("v1")
        local.promote("v1", "it forgot everything", "test")
        waiting = Experiment("run-1-interleaving", "base", "v1", "interleaving", local._in.now_ms(), run_id="run-1")
        local._in.store.experiments.add(waiting)
    relevant = [frozenset(doc for doc, grade in item.answers.items() if grade == 2) for item in asked]
    return Audience([item.text for item in asked], relevant, users=400)


def search(daemon: Daemon, kafka: Kafka, audience: Audience, sessions: int, seed: int) -> None:
    producer = Producer(kafka, delivery_seconds=120)
    client = HttpSearch(lambda: daemon.url, None)
    try:
        sink = BrokerEvents(producer.send, kafka.topic_events)
        played = play(client, sink, audience, People("pbm"), sessions=sessions, seed=seed)
        assert played.settle() == 0
    finally:
        client.close()
        producer.close()


def until(daemon: Daemon, said: Callable[[dict[str, Any]], bool], go_on: Callable[[int], None]) -> dict[str, Any]:
    """Let people search until the status says so."""
    for turn in range(12):
        status: dict[str, Any] = daemon.flywheel("status")
        if said(status):
            return status
        go_on(turn)
    raise AssertionError(f"after all those searches: {json.dumps(status['experiment'])}; {daemon.log_tail()}")


def test_people_choose_the_better_model(tmp_path: Path) -> None:
    """Interleaved, killed, split, promoted, announced, then watched: all by itself, through HTTP and Kafka."""
    with EmbeddedBroker() as broker:
        daemon = Daemon(tmp_path / "home", {**SETTINGS, "kafka.bootstrap": broker.bootstrap})
        kafka = Kafka(bootstrap=broker.bootstrap)
        audience = prepare(daemon)
        daemon.start()
        try:
            until(daemon, lambda status: bool(status["experiment"]), lambda _: search(daemon, kafka, audience, 10, 0))
            models = {model["version"]: model["alias"] for model in daemon.flywheel("models")}
            assert models == {"base": "challenger", "v1": "champion"}
            search(daemon, kafka, audience, 150, 1)
            daemon.kill()
            daemon.start()
            status = until(
                daemon,
                lambda status: status["champion"]["version"] == "base",
                lambda turn: search(daemon, kafka, audience, 250, 2 + turn),
            )
            assert status["champion"]["version"] == "base"
            told = daemon.flywheel("sql", "select kind, version, actor from decisions order by number desc limit 1")
            assert told == [{"kind": "promote", "version": "base", "actor": "flywheel"}]
            until(
                daemon,
                lambda status: (status["experiment"] or {}).get("stage") == "confirmation",
                lambda turn: search(daemon, kafka, audience, 5, 50 + turn),
            )
            search(daemon, kafka, audience, 100, 99)
            arms = daemon.flywheel(
                "sql",
                "select split_part(experiment_id, '-', 3) as stage, arm, model_version as model, count(*) > 5 as seen "
                "from queries where experiment_id is not null group by all order by all",
            )
            assert [(row["stage"], row["arm"], row["model"]) for row in arms] == [
                ("confirmation", "challenger", "base"),
                ("confirmation", "champion", "v1"),
                ("interleaving", "interleaved", "v1"),
                ("split", "challenger", "base"),
                ("split", "champion", "v1"),
            ]
            switches = "select count(*) as n from decisions where alias is not null and announced_at is null"
            until(daemon, lambda _: daemon.flywheel("sql", switches) == [{"n": 0}], lambda _: None)
            metrics = urllib.request.urlopen(f"{daemon.url}/metrics", timeout=30).read().decode()
            assert "flywheel_experiments_void 0.0" in metrics
        finally:
            daemon.stop()
