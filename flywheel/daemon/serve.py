"""`flywheel run`: threads around one open installation, started in order, stopped within seconds, with no error hidden.

1. the HTTP API answers (not ready yet), 2. the champion is loaded and indexed, 3. ingestion, 4. the cycle worker, which
first finishes what an earlier process left, 5. the scheduler with thresholds, announcements and publication.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC
from logging.handlers import RotatingFileHandler
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from prometheus_client import CollectorRegistry

from consumers.batch import Topics
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from consumers.room import room_on_disk
from flywheel.broker.admin import ensure_topics
from flywheel.broker.connection import BrokerUnavailable
from flywheel.broker.producer import Producer
from flywheel.daemon.announce import Announcer, decision_id
from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.daemon.publish import BrokerPublisher
from flywheel.daemon.records import judge
from flywheel.daemon.repeater import Repeater
from flywheel.daemon.worker import CycleWorker
from flywheel.experiments.frozen import FrozenWatch
from flywheel.exploration.planner import Planner
from flywheel.gates.triggers import check
from flywheel.learning.measure import Meter
from flywheel.operations import Json
from flywheel.retrieval.indexer import Stopped
from flywheel.serving.endpoints.app import create_app
from flywheel.serving.engine import SearchEngine
from flywheel.serving.server import HttpServer
from flywheel.serving.services import Pages, Services
from flywheel.settings.home import Home, HomeError
from flywheel.settings.load import Config, ConfigError
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.state import PAUSED

log = logging.getLogger(__name__)

Opener = Callable[[Home, Config, threading.Event], AbstractContextManager[Installation]]
_INDEX_IDLE_SECONDS = 0.5
_ANNOUNCE_SECONDS = 5.0
_JOIN_SECONDS = 5.0
# a job that could not start on time still runs, however late, and never twice at once
_JOB = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}


def serve(home: Home, config: Config, open_installation: Opener, now_ms: Callable[[], int], pages: Pages = ()) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0. `pages` are routes for browsers beside the API.

    Raises:
        HomeError: another daemon serves this home, or it is no home.
        ConfigError: the address cannot be bound, or needs a token that is not set.
        StoreLocked: another process has the database open.
    """
    if not home.exists:
        raise HomeError(f"{home.root} is no Flywheel home; make one with `flywheel --home {home.root} init`")
    other = home.daemon()
    if other is not None:
        raise HomeError(
            f"a daemon (pid {other['pid']}, {other['url']}) serves {home.root} already; stop that one first"
        )
    log_to(home)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_installation(home, config, stop) as parts:
        daemon = Daemon(parts, stop, now_ms, pages)
        parts.cycle.listeners.append(daemon.activate)
        parts.director.listeners.append(daemon.activate)
        daemon.run()
    return 0


def log_to(home: Home) -> None:
    """Log to standard error and to logs/flywheel.log, which is rotated; libraries log warnings and errors only."""
    (home.root / "logs").mkdir(exist_ok=True)
    rotating = RotatingFileHandler(home.logs / "flywheel.log", maxBytes=10_000_000, backupCount=3, encoding="utf-8")
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(threadName)s %(message)s",
        handlers=[logging.StreamHandler(), rotating],
        force=True,
    )
    for ours in ("flywheel", "consumers"):
        logging.getLogger(ours).setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.ERROR)  # it warns at each attempt; our own log does so once


class Daemon:
    """The threads of `flywheel run`, and what `status` reports about them."""

    def __init__(
        self, parts: Installation, stop: threading.Event, now_ms: Callable[[], int], pages: Pages = ()
    ) -> None:
        self._in, self._stop, self._now_ms, self._pages = parts, stop, now_ms, pages
        self._started = time.monotonic()
        self._producer = Producer(parts.config.kafka)
        self._engine = SearchEngine(
            parts.titles,
            now_ms=now_ms,
            seconds=time.perf_counter,
            cache_queries=parts.config.serving.cache_queries,
        )
        self._planner = Planner(parts.config, parts.store, parts.registry, parts.indexers, parts.learning.words)
        self._frozen = FrozenWatch(parts.store, parts.config, now_ms)
        self._worker = CycleWorker(parts.cycle, stop, lambda: self._engine.live is not None)
        self._operations = LocalOperations(
            parts, DaemonHooks(turn=self._turn, activate=self.activate, status=self._status)
        )
        self._ingest = self._build_ingest()
        self._indexing = Repeater("index", self._index_step, stop)
        self._announcing = Repeater("announce", self._announce_step, stop)
        self._experimenting = Repeater("experiment", self._experiment_step, stop)
        self._exploring = Repeater("explore", self._explore_step, stop)
        self._loops = (self._indexing, self._announcing, self._experimenting, self._exploring)
        self._announcer = Announcer(
            parts.store.decisions,
            lambda key, value: self._producer.send(parts.config.kafka.topic_models, key, value),
            self._announced,
            index_of=lambda version: getattr(parts.store.models.get(version), "index_id", None),
            now_ms=now_ms,
        )
        self._meter = Meter(
            parts.store,
            parts.config,
            judged_sets=parts.cycle.judged_sets,
            ranker=parts.cycle.ranker,
            paused=lambda: bool(parts.store.state.get(PAUSED, False)),
        )
        self._cron_due = threading.Event()
        self._topics_ready = False
        self._activating = threading.Lock()  # of two switches at once, the older must not be served last

    def run(self) -> None:
        """Start everything, wait for the stop, stop everything."""
        with ExitStack() as stack:
            stack.callback(self._producer.close, 1.0)
            server = stack.enter_context(HttpServer(self._app(), *self._address()))
            self._in.home.announce(server.url)
            stack.callback(self._in.home.retract)
            log.info("serving %s on %s", self._in.home.root, server.url)
            threads: list[threading.Thread] = [*self._loops, self._worker]
            threads.append(threading.Thread(target=self._ingest.run, args=(self._stop,), name="ingest", daemon=True))
            scheduler = self._schedule()
            for thread in threads:
                thread.start()
            scheduler.start()
            self._stop.wait()
            log.info("stopping")
            self._in.home.retract()  # first, so that no command asks a daemon that is stopping
            server.stop_soon()
            scheduler.shutdown(wait=False)
            for loop in self._loops:
                loop.wake()
            deadline = time.monotonic() + _JOIN_SECONDS
            for thread in threads:
                thread.join(max(0.1, deadline - time.monotonic()))
        log.info("stopped")

    def activate(self, _version: str) -> None:
        """Serve the champion, usually this version, from the next search on, and announce it.

        Two switches may arrive in another order than they were decided, so the database says who is champion. The same
        swap adds or removes the challenger of an experiment.
        """
        with self._activating:
            live = dataclasses.replace(self._in.lineup.build(), explorer=self._planner.explorer)
            self._engine.swap(live)
        self._announcing.wake()
        self._exploring.wake()
        beside = f", {live.challenger.version} beside it" if live.challenger else ""
        log.info("champion is %s%s", live.version, beside)

    def _app(self) -> Any:
        config = self._in.config
        services = Services(
            search=self._engine,
            operations=self._operations,
            publisher=BrokerPublisher(self._producer, config.kafka),
            judge=judge(self._in.decoder),
            settings=config.serving,
            limits=config.limits,
            registry=CollectorRegistry(),
            ready=self._not_ready,
            pages=self._pages,
        )
        return create_app(services, now_ms=self._now_ms)

    def _address(self) -> tuple[str, int]:
        return self._in.config.serving.host, self._in.config.serving.port

    def _build_ingest(self) -> Ingest:
        config, home = self._in.config, self._in.home
        topics = Topics.of(config.kafka)
        return Ingest(
            KafkaSource(config.kafka, topics.names),
            self._in.store.feedback,
            self._in.decoder,
            topics,
            outbox=self._producer,
            dead_letter_topic=config.kafka.topic_dead_letters,
            room=room_on_disk(home.root, config.limits.min_free_mb),
        )

    def _schedule(self) -> BackgroundScheduler:
        config = self._in.config
        scheduler = BackgroundScheduler(timezone=UTC, job_defaults=_JOB)
        scheduler.add_job(self._check_triggers, "interval", seconds=config.retrain.check_seconds, id="triggers")
        scheduler.add_job(self._publish, "interval", seconds=config.analytics.publish_seconds, id="analytics")
        if config.retrain.cron:
            try:
                trigger = CronTrigger.from_crontab(config.retrain.cron, timezone=UTC)
            except ValueError as error:
                raise ConfigError(f"retrain.cron {config.retrain.cron!r} is no crontab line: {error}") from error
            scheduler.add_job(self._cron_due.set, trigger, id="cron")
        return scheduler

    def _turn(self, wait: bool, tier: str | None) -> Json:
        future = self._worker.request("manual", tier)
        return future.result() if wait else {"accepted": True, "trigger": "manual"}

    def _check_triggers(self) -> None:
        now = self._now_ms()
        due = self._cron_due.is_set()
        try:
            measured = self._meter.measure(now)
        except Stopped:
            return
        answer = check(measured, self._in.config.retrain, now_ms=now, cron_due=due)
        self._in.store.runs.record_checks(now, answer.checks)
        if answer.retrain and not self._worker.busy:
            log.info("retraining: %s", answer.trigger)
            self._cron_due.clear()  # only now, so that no cron time is lost while a cycle is busy
            self._worker.request(answer.trigger)

    def _publish(self) -> None:
        self._in.store.analytics.publish(self._now_ms())

    def _index_step(self) -> float:
        champion = self._in.store.models.aliases()[CHAMPION]
        try:
            more = self._in.indexers.of(champion).step()
        except Stopped:
            return _INDEX_IDLE_SECONDS
        live = self._engine.live
        if not more and (live is None or live.version != champion):
            self.activate(champion)
            self._publish()
        return 0.0 if more else _INDEX_IDLE_SECONDS

    def _experiment_step(self) -> float:
        """Look once at the live experiment, and serve what it decides."""
        if self._engine.live is None:
            return _INDEX_IDLE_SECONDS
        try:
            moved = self._in.director.step() | self._in.lineup.follow() | self._frozen.step()
        except Stopped:
            return _INDEX_IDLE_SECONDS
        if self._in.lineup.stale(self._engine.live):
            self.activate(self._engine.live.version)
        return 0.0 if moved else self._in.config.promotion.look_seconds

    def _announce_step(self) -> float:
        if not self._topics_ready:
            kafka = self._in.config.kafka
            names = (*Topics.of(kafka).names, kafka.topic_models, kafka.topic_dead_letters)
            ensure_topics(kafka, names)
            self._topics_ready = True
        self._announcer.step()
        return _ANNOUNCE_SECONDS

    def _explore_step(self) -> float:
        return 1.0 if self._engine.live is None else self._planner.step(self._now_ms())

    def _announced(self) -> set[str]:
        """Decision ids on the models topic now, read from its beginning."""
        kafka = self._in.config.kafka
        source = KafkaSource(kafka, (kafka.topic_models,), poll_ms=100)
        decision_ids: set[str] = set()
        try:
            source.connect()
            source.assign({})
            while not self._stop.is_set():
                messages = [message for read in source.poll().values() for message in read]
                decision_ids |= {decision_id(message.value) for message in messages}
                if not messages and source.lag() == 0:
                    return decision_ids
            raise BrokerUnavailable("stopping before the models topic was read")
        finally:
            source.close()

    def _not_ready(self) -> list[str]:
        reasons = []
        if self._engine.live is None:
            reasons.append(f"the champion is being loaded and indexed{_because(self._indexing)}")
        if self._ingest.state.phase != "connected":
            reasons.append(f"the broker: {self._ingest.state.error or self._ingest.state.phase}")
        if not self._topics_ready:
            reasons.append(f"topics are not there yet{_because(self._announcing)}")
        return reasons

    def _status(self) -> Json:
        state = self._ingest.state
        kafka = self._in.config.kafka
        phase = {"bootstrap": kafka.bootstrap, "phase": state.phase, "error": state.error}
        broken = {loop.name: loop.error for loop in self._loops if loop.error is not None}
        if state.blocked:
            broken["topics"] = "; ".join(state.blocked)
        if self._producer.pending and self._producer.error:
            broken["publishing"] = self._producer.error
        return {
            "uptime": round(time.monotonic() - self._started, 1),
            "broker": {**phase, "cluster_id": state.cluster_id, "unsent": self._producer.pending},
            "ingest": {
                "lag": state.lag,
                "rate": state.rate,
                "phase": state.phase,
                "error": state.error,
                "blocked": len(state.blocked),
                "set_aside": state.set_aside,
                "unsent_dead_letters": state.unsent_dead_letters,
                "warnings": list(state.warnings),
            },
            "problems": broken,
            "ready": self._not_ready(),
            "searches": dict(self._engine.counts()),
            "exploration": self._planner.status(),
        }


def _because(loop: Repeater) -> str:
    return "" if loop.error is None else f" ({loop.error})"
