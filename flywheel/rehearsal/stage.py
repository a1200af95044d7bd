"""Runs a rehearsal before real people come: a daemon, a broker if there is none, and simulated people.

It plays the product from outside, over HTTP and Kafka, and asks for a turn of the wheel after each round. It trains,
judges and promotes nothing itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.broker.connection import BrokerUnavailable, probe
from flywheel.broker.producer import Producer
from flywheel.client import RemoteOperations
from flywheel.files.beir import Judged
from flywheel.operations import Json, OperationError
from flywheel.rehearsal.people import People
from flywheel.rehearsal.product import Audience, BrokerEvents, HttpSearch, Played, play
from flywheel.settings.home import Home
from flywheel.settings.load import Config, load

Note = Callable[[str], None]
Progress = Callable[[str, int, int], None]
GOLDEN_SHARE = 0.2
READY_SECONDS = 1_800.0  # a large collection must be embedded first
SETTLE_SECONDS = 300.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_BATCH = 1_000
_MARKER = "rehearsal.json"
_WATCH_SECONDS = 1.0
# states of a run, as people read them; where there are no steps, the seconds so far stand beside them
_DOING = {
    "started": "clicks are weighed, seconds",
    "evidence": "pairs are made, seconds",
    "training": "the model trains",
    "gate": "the challenger is judged, seconds",
}


class RehearsalFailed(Exception):  # noqa: N818 - reads as what happened
    """The rehearsal could not be played; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon that serves a home, with its settings and address."""

    operations: RemoteOperations
    home: Home
    config: Config
    url: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: the queries searched, how people react and how often, and the gate's judged queries."""

    searched: Judged
    golden: Judged
    people: People
    sessions: int
    rounds: int
    seed: int = 0
    name: str = "rehearsal"


def divide(judged: Judged, seed: int) -> tuple[Judged, Judged]:
    """(searched, golden): a random fifth of the queries is golden, and nobody searches for it."""
    order = np.random.default_rng([seed, 1]).permutation(len(judged))
    cut = int(len(judged) * GOLDEN_SHARE)
    return _rows(judged, order[cut:]), _rows(judged, order[:cut])


def _rows(judged: Judged, rows: Sequence[int] | np.ndarray) -> Judged:
    chosen = [int(row) for row in rows]
    return Judged(
        tuple(judged.ids[row] for row in chosen),
        tuple(judged.texts[row] for row in chosen),
        tuple(judged.judgements[row] for row in chosen),
    )


@contextmanager
def staged(home: Home, environ: Mapping[str, str], note: Note) -> Iterator[RunningDaemon]:
    """A daemon on `home`: a new one, which is stopped at the end, or the one that serves it already and goes on.

    A new daemon gets an embedded broker if no broker answers. Then only the home outlives the rehearsal.

    Raises:
        RehearsalFailed: the home holds feedback of real people, or the daemon does not come up.
    """
    with ExitStack() as stack:
        config = load(home.root, environ)
        home.init()
        serving = home.daemon()
        if serving is None:
            extra = _broker(config, stack, note)
            environ = {**environ, **extra}
            config = load(home.root, environ)
            process = _start(home, environ, stack)
            _await_daemon(home, process)
        else:
            _reach_broker(home, config)
        operations = RemoteOperations(_url(home), config.serving.token)
        stack.callback(operations.close)
        _refuse_real_feedback(home, operations)
        yield RunningDaemon(operations, home, config, lambda: _url(home))


def _broker(config: Config, stack: ExitStack, note: Note) -> dict[str, str]:
    """Settings for the daemon of a rehearsal; starts an embedded broker if none answers."""
    # no thresholds: the rehearsal asks for each turn itself
    settings = {"RETRAIN__ENABLED": "false", "SERVING__PORT": "0", "SERVING__PAGE_LOG_TIMEOUT_MS": "20000"}
    try:
        probe(config.kafka)
    except BrokerUnavailable:
        from flywheel.broker.embedded import EmbeddedBroker

        broker = stack.enter_context(EmbeddedBroker())
        settings["KAFKA__BOOTSTRAP"] = broker.bootstrap
        note(f"no broker at {config.kafka.bootstrap}: an embedded one, in memory, serves this rehearsal")
    return {f"FLYWHEEL__{name}": value for name, value in settings.items()}


def _start(home: Home, environ: Mapping[str, str], stack: ExitStack) -> subprocess.Popen[bytes]:
    log = stack.enter_context((home.logs / "rehearsal.log").open("ab"))
    # started through this module, it ends with us; if it outlived us, its broker would be unknown to the next rehearsal
    command = [sys.executable, "-m", "trainer.process.parent", str(os.getpid())]
    command += [sys.executable, "-m", "flywheel.cli", "--home", str(home.root), "run"]
    process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(environ))  # noqa: S603 - our own command
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reach_broker(home: Home, config: Config) -> None:
    try:
        probe(config.kafka)
    except BrokerUnavailable as error:
        raise RehearsalFailed(
            f"a daemon serves {home.root} already, and what people do reaches it by its broker only: {error}. "
            "Stop the daemon, and the rehearsal starts both; or name its broker in kafka.bootstrap"
        ) from error


def _await_daemon(home: Home, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while home.daemon() is None:
        if process.poll() is not None or time.monotonic() > deadline:
            tail = (home.logs / "rehearsal.log").read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise RehearsalFailed(f"the daemon did not start: {' '.join(tail)} (see {home.logs})")
        time.sleep(_LOOK_SECONDS)


def _url(home: Home) -> str:
    daemon = home.daemon()
    if daemon is None:
        raise ConnectionError(f"no daemon serves {home.root} now")
    return str(daemon["url"])


def _refuse_real_feedback(home: Home, operations: RemoteOperations) -> None:
    marker = home.root / _MARKER
    if not marker.exists() and operations.status()["ingest"]["queries"]:
        raise RehearsalFailed(
            f"{home.root} holds feedback of real people, which simulated ones would spoil; "
            "name a home of its own, as in `flywheel --home rehearsal simulate …`"
        )
    marker.write_text(json.dumps({"note": "the people in this home are simulated"}), "utf-8")


def furnish(stage: RunningDaemon, documents: Sequence[Json], golden: Judged, progress: Progress) -> None:
    """Bring in the documents and the gate's judged queries, and wait until all are indexed and served."""
    for start in range(0, len(documents), _BATCH):
        stage.operations.import_records("documents", list(documents[start : start + _BATCH]))
    queries = [{"id": key, "text": text} for key, text in zip(golden.ids, golden.texts, strict=True)]
    judgements = [
        {"query_id": key, "doc_id": doc_id, "grade": grade}
        for key, grades in zip(golden.ids, golden.judgements, strict=True)
        for doc_id, grade in grades.items()
    ]
    stage.operations.import_judged("golden", "rehearsal", queries, judgements)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        status = stage.operations.status()
        indexed, waiting = int(status["index"]["documents"]), int(status["index"]["pending"])
        progress("indexing", indexed, max(indexed + waiting, len(documents)))
        broker = status["broker"]
        missing = [*status["ready"]]
        missing += [] if broker["phase"] == "connected" else [f"the broker: {broker['error'] or broker['phase']}"]
        missing += [] if broker["topics"] else ["topics are not there yet"]
        if not waiting and indexed >= len(documents) and not missing:
            return
        if time.monotonic() > deadline:
            raise RehearsalFailed(f"the daemon is not ready: {'; '.join(missing) or 'still indexing'}")
        time.sleep(_LOOK_SECONDS)


def perform(stage: RunningDaemon, script: Script, note: Note, progress: Progress) -> list[Json]:
    """Play every round, each followed by a turn of the wheel; returns a record for each round."""
    producer = Producer(stage.config.kafka, delivery_seconds=120)
    search = HttpSearch(stage.url, stage.config.serving.token)
    sink = BrokerEvents(producer.send, stage.config.kafka.topic_events)
    audience = _audience(script)
    turns: list[Json] = []
    try:
        for number in range(1, script.rounds + 1):
            before, started = stage.operations.status()["ingest"], time.monotonic()
            played = play(
                search,
                sink,
                audience,
                script.people,
                sessions=script.sessions,
                seed=script.seed * 1000 + number,
                progress=partial(progress, f"round {number}: people search"),
            )
            seconds = _settle(stage, played, before, started)
            note(f"round {number}: {len(played.pages)} pages, {len(played.events)} events, CTR {played.ctr:.3f}")
            turns.append(_turn(stage, number, played, seconds, note, progress))
    finally:
        search.close()
        producer.close()
    return turns


def _audience(script: Script) -> Audience:
    relevant = [frozenset(doc for doc, grade in graded.items() if grade > 0) for graded in script.searched.judgements]
    target = min((doc for documents in relevant for doc in documents), default=None)
    return Audience(script.searched.texts, relevant, target=target)


def _settle(stage: RunningDaemon, played: Played, before: Mapping[str, int], started: float) -> float:
    """Wait until all acknowledged messages are stored; returns the seconds since `started`."""
    if failed := played.settle():
        raise RehearsalFailed(f"the broker did not take {failed} events; is it up, and has it room?")
    deadline = time.monotonic() + SETTLE_SECONDS
    expected = (before["queries"] + len(played.pages), before["events"] + len(played.events))
    while True:
        now = stage.operations.status()["ingest"]
        if now["queries"] >= expected[0] and now["events"] >= expected[1]:
            return time.monotonic() - started
        if time.monotonic() > deadline:
            stored = (now["queries"], now["events"])
            raise RehearsalFailed(f"stored {stored} of {expected} pages and events; see `flywheel status`")
        time.sleep(_LOOK_SECONDS)


def _turn(stage: RunningDaemon, number: int, played: Played, seconds: float, note: Note, progress: Progress) -> Json:
    started = time.monotonic()
    try:
        answer = _watched(stage, f"round {number}", progress)
    except OperationError as error:
        raise RehearsalFailed(f"round {number}: the cycle failed: {error}") from error
    decision = answer["decision"]
    note(f"round {number}: {decision['verdict']}: {'; '.join(decision['reasons'])}")
    return {
        "round": number,
        "pages": len(played.pages),
        "events": len(played.events),
        "ctr": played.ctr,
        "messages_per_second": round((len(played.pages) + len(played.events)) / seconds, 1),
        "candidate": _version(answer.get("candidate")),
        "verdict": decision["verdict"],
        "reasons": list(decision["reasons"]),
        "cycle_seconds": round(time.monotonic() - started, 1),
    }


def _watched(stage: RunningDaemon, label: str, progress: Progress) -> Json:
    """A turn of the wheel, with what it is doing told meanwhile: steps of a training, else the seconds it has taken."""
    with ThreadPoolExecutor(1) as pool:
        turning = pool.submit(stage.operations.cycle, wait=True)
        began = time.monotonic()
        while not wait([turning], timeout=_WATCH_SECONDS).done:
            with suppress(OperationError, ConnectionError):
                status = stage.operations.status()
                state = (status["cycle"]["running"] or {}).get("state", "started")
                training = status.get("training") if state == "training" else None
                done, total = (training["step"], training["steps"]) if training else (time.monotonic() - began, 0)
                progress(f"{label}: {_DOING.get(state, state)}", int(done), int(total))
        return turning.result()


def _version(candidate: Any) -> str | None:
    version = candidate.get("version") if isinstance(candidate, Mapping) else candidate
    return None if version is None else str(version)


def documents_of(passages: Iterator[Any]) -> list[Json]:
    """Passages of a collection as records to import."""
    return [{"doc_id": p.doc_id, "title": p.title, "text": p.text} for p in passages]


def home_of(path: Path) -> Home:
    """The home of a rehearsal, made if there is none."""
    home = Home(path)
    home.init()
    return home
