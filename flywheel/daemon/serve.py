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
from typing import Any

from prometheus_client import CollectorRegistry, Histogram

from consumers.batch import Topics
from consumers.disk_space import room_on_disk
from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.admin import ensure_topics
from flywheel.broker.connection import BrokerUnavailable
from flywheel.broker.producer import Producer
from flywheel.daemon.announce import Announcer, decision_id
from flywheel.daemon.health import Health
from flywheel.daemon.intake.records import judge
from flywheel.daemon.jobs import Jobs
from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.daemon.logs import log_to
from flywheel.daemon.publish import BrokerPublisher
from flywheel.daemon.pulse import Pulse, TimedSink
from flywheel.daemon.repeater import Repeater
from flywheel.daemon.webhooks import Messenger
from flywheel.daemon.worker import CycleWorker
from flywheel.experiments.frozen import FrozenWatch
from flywheel.exploration.planner import Planner
from flywheel.gates.triggers import Measurements, check
from flywheel.learning.measure import Meter
from flywheel.operations import Json
from flywheel.retrieval.indexer import Stopped
from flywheel.serving.endpoints.app import create_app
from flywheel.serving.engine import SearchEngine
from flywheel.serving.server import HttpServer
from flywheel.serving.services import Pages, Services
from flywheel.serving.tracing import exported
from flywheel.settings.home import Home, HomeError
from flywheel.settings.load import Config
from flywheel.settings.memory import MemoryBudget
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.state import PAUSED

log = logging.getLogger(__name__)

Opener = Callable[[Home, Config, threading.Event], AbstractContextManager[Installation]]
_INDEX_IDLE_SECONDS = 0.5
_ANNOUNCE_SECONDS = 5.0
_JOIN_SECONDS = 5.0
_AGES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 86_400.0)


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
    log_to(home, config.logs)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_installation(home, config, stop) as parts:
        daemon = Daemon(parts, stop, now_ms, pages)
        parts.cycle.listeners.append(daemon.activate)
        parts.director.listeners.append(daemon.activate)
        daemon.run()
        answers = LocalOperations(parts, DaemonHooks(turn=lambda *_: {})).left()
    home.leave(answers)
    return 0


class Daemon:
    """The threads of `flywheel run`, and what `status` reports about them."""

    def __init__(
        self, parts: Installation, stop: threading.Event, now_ms: Callable[[], int], pages: Pages = ()
    ) -> None:
        self._in, self._stop, self._now_ms, self._pages = parts, stop, now_ms, pages
        self._started = time.monotonic()
        self._metrics = CollectorRegistry()
        self._measured: Measurements | None = None
        self._threads: list[threading.Thread] = []
        self._pulse, self._jobs = Pulse(now_ms), Jobs()
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
        self._thresholds = parts.config.retrain
        hooks = DaemonHooks(
            turn=self._turn,
            activate=self.activate,
            configured=self._configured,
            status=self._status,
            sql_age_seconds=parts.config.analytics.publish_seconds,
        )
        self._operations = LocalOperations(parts, hooks)
        self._source = KafkaSource(parts.config.kafka, Topics.of(parts.config.kafka).names)
        self._ingest = self._build_ingest()
        self._indexing = Repeater("index", self._index_step, stop)
        self._announcing = Repeater("announce", self._announce_step, stop)
        self._experimenting = Repeater("experiment", self._experiment_step, stop)
        self._exploring = Repeater("explore", self._explore_step, stop)
        self._posting = Repeater("webhooks", self._build_messenger().step, stop)
        self._loops = (self._indexing, self._announcing, self._experimenting, self._exploring, self._posting)
        self._announcer, self._meter = self._build_announcer(), self._build_meter()
        self._cron_due = threading.Event()
        self._topics_ready = False
        self._health = self._build_health()
        self._activating = threading.Lock()  # of two switches at once, the older must not be served last

    def run(self) -> None:
        """Start everything, wait for the stop, stop everything."""
        with ExitStack() as stack:
            stack.callback(self._producer.close, 1.0)
            serving, limits = self._in.config.serving, self._in.config.limits
            server = stack.enter_context(HttpServer(self._app(), serving.host, serving.port, limits))
            self._in.home.announce(server.url)
            stack.callback(self._in.home.retract)
            log.info("serving %s on %s", self._in.home.root, server.url)
            self._in.store.sql.keep_ready()
            reading = (self._stop, self._pulse.beat)
            ingesting = threading.Thread(target=self._ingest.run, args=reading, name="ingest", daemon=True)
            threads: list[threading.Thread] = [*self._loops, self._worker, ingesting]
            self._schedule()
            for thread in threads:
                thread.start()
            self._threads = threads
            self._jobs.start()
            self._stop.wait()
            log.info("stopping")
            self._in.home.retract()  # first, so that no command asks a daemon that is stopping
            server.stop_soon()
            self._jobs.stop()
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
        log.info("champion is %s%s", live.version, beside, extra={"version": live.version})

    def _app(self) -> Any:
        config = self._in.config
        services = Services(
            search=self._engine,
            operations=self._operations,
            publisher=BrokerPublisher(self._producer, config.kafka),
            judge=judge(self._in.decoder),
            settings=config.serving,
            limits=config.limits,
            registry=self._metrics,
            ready=self._health.not_ready,
            pages=self._pages,
            spans=exported(config.traces),
        )
        return create_app(services, now_ms=self._now_ms)

    def _build_announcer(self) -> Announcer:
        store, topic = self._in.store, self._in.config.kafka.topic_models
        return Announcer(
            store.decisions,
            lambda key, value: self._producer.send(topic, key, value),
            self._announced,
            index_of=lambda version: getattr(store.models.get(version), "index_id", None),
            now_ms=self._now_ms,
        )

    def _build_meter(self) -> Meter:
        parts = self._in
        return Meter(
            parts.store,
            parts.config,
            judged_sets=parts.cycle.judged_sets,
            ranker=parts.cycle.ranker,
            paused=lambda: bool(parts.store.state.get(PAUSED, False)),
        )

    def _build_ingest(self) -> Ingest:
        config, home = self._in.config, self._in.home
        ages = Histogram(
            "flywheel_ingest_freshness_seconds",
            "From the time of a batch's newest event to its storing.",
            registry=self._metrics,
            buckets=_AGES,
        )
        return Ingest(
            self._source,
            TimedSink(self._in.store.feedback, ages),
            self._in.decoder,
            Topics.of(config.kafka),
            outbox=self._producer,
            dead_letter_topic=config.kafka.topic_dead_letters,
            room=room_on_disk(home.root, config.limits.min_free_mb),
        )

    def _schedule(self) -> None:
        config = self._in.config
        self._jobs.every("triggers", config.retrain.check_seconds, self._check_triggers)
        self._jobs.every("analytics", config.analytics.publish_seconds, self._publish)
        if config.retrain.cron:
            self._jobs.cron(config.retrain.cron, self._cron_due.set)

    def _build_messenger(self) -> Messenger:
        def stalled() -> tuple[float, str | None]:
            return self._pulse.stalled(self._ingest.state)

        return Messenger(self._in.store, self._in.config.webhooks, stalled=stalled, now_ms=self._now_ms)

    def _build_health(self) -> Health:
        return Health(
            home=self._in.home,
            config=self._in.config,
            engine=self._engine,
            producer=self._producer,
            source=self._source,
            ingest=self._ingest,
            pulse=self._pulse,
            loops=self._loops,
            jobs=self._jobs,
            topics_ready=lambda: self._topics_ready,
            threads=lambda: self._threads,
            measured=lambda: self._measured,
        )

    def _turn(self, wait: bool, tier: str | None) -> Json:
        future = self._worker.request("manual", tier)
        return future.result() if wait else {"accepted": True, "trigger": "manual"}

    def _configured(self, config: Config) -> None:
        self._thresholds = config.retrain
        log.info("thresholds were changed; the next check goes by them")

    def _check_triggers(self) -> None:
        now = self._now_ms()
        due = self._cron_due.is_set()
        try:
            measured = self._meter.measure(now)
        except Stopped:
            return
        self._measured = measured
        answer = check(measured, self._thresholds, now_ms=now, cron_due=due)
        self._in.store.runs.record_checks(now, answer.checks)
        if answer.retrain and not self._worker.busy and not self._meter.overtaken(measured):
            log.info("retraining: %s", answer.trigger)
            self._cron_due.clear()  # only now, so that no cron time is lost while a cycle is busy
            self._worker.request(answer.trigger)

    def _publish(self) -> None:
        if not self._in.eraser.finish():
            self._in.store.analytics.publish(self._now_ms())

    def _index_step(self) -> float:
        champion = self._in.store.models.aliases()[CHAMPION]
        MemoryBudget(self._in.config.limits.memory_gb).check("indexing")
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

    def _status(self) -> Json:
        report = self._health.status(time.monotonic() - self._started)
        return report | {"searches": dict(self._engine.counts()), "exploration": self._planner.status()}
