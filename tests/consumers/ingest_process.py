"""A process that ingests into a real store until it is killed; `--die POINT` kills it by itself at that point."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consumers.batch import Topics
from consumers.decode import Decoder
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.producer import Producer
from flywheel.settings.load import Kafka, Signals
from flywheel.store import Store

POINTS = ("polled", "decoded", "stored", "committed")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--die", choices=POINTS)
    arguments = parser.parse_args()
    kafka = Kafka.model_validate_json(arguments.settings)
    topics = Topics.of(kafka)
    with Store.open(arguments.store, memory_gb=1.0, threads=1) as store, Producer(kafka) as outbox:
        source = KafkaSource(kafka, topics.names, poll_ms=50, gather_ms=0)
        sink = store.feedback
        if arguments.die == "polled":
            _die(source, "poll", after=True)
        elif arguments.die == "decoded":
            _die(sink, "ingest", after=False)
        elif arguments.die == "stored":
            _die(source, "commit", after=False)
        elif arguments.die == "committed":
            _die(source, "commit", after=True)
        decoder = Decoder(Signals(), lambda person: f"key-{person}", 1_048_576)
        ingest = Ingest(source, sink, decoder, topics, outbox=outbox, dead_letter_topic=kafka.topic_dead_letters)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        print("ready", flush=True)
        ingest.run(stop)


def _die(owner: Any, name: str, *, after: bool) -> None:
    """Kill this process at the third call that matters: before it, or after it has done its work."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = original(*arguments, **options)
        if name == "poll" and not outcome:
            calls[0] -= 1
        if calls[0] == 3 and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    main()
