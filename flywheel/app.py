"""The one place that builds real parts: an installation from a home, operations on it, and the daemon.

It holds no logic of its own. All other modules take their collaborators as arguments.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from consumers.decode import Decoder
from flywheel.daemon.keeping import backups
from flywheel.daemon.keeping.erasing import Eraser
from flywheel.daemon.keeping.expiring import Retention
from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.experiments.director import Director
from flywheel.experiments.frozen import check, frozen_of
from flywheel.experiments.lineup import Lineup
from flywheel.experiments.metric import fixed
from flywheel.experiments.shadow_stage import ShadowStage, shadow_policy
from flywheel.experiments.stages import live_stages
from flywheel.gates.judged import policy_of
from flywheel.learning.cycle import Cycle, Parts
from flywheel.learning.snapshot import Learning
from flywheel.retrieval.bm25_shared import Words
from flywheel.retrieval.indexer import Indexers
from flywheel.retrieval.registry import BASE, Registry
from flywheel.retrieval.titles import TitleCache
from flywheel.settings.erased import Ledger, key_file
from flywheel.settings.home import Home, HomeError
from flywheel.settings.load import Config, load
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.feedback.sessions import hash_sessions
from flywheel.store.store import Store
from flywheel.tracking.mlflow import Tracker
from flywheel.tracking.wandb import Diary


def now_ms() -> int:
    """Wall clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000


@contextmanager
def open_local(home: Path, environ: Mapping[str, str]) -> Iterator[LocalOperations]:
    """Operations on a home that no daemon serves; a cycle runs in this process."""
    stop = threading.Event()
    with open_installation(Home(home), load(home, environ), stop) as parts:

        def turn(wait: bool, tier: str | None) -> dict[str, object]:  # noqa: ARG001 - nobody else would run it
            return parts.cycle.turn("manual", tier)

        local = LocalOperations(parts, DaemonHooks(turn=turn))
        yield local
        parts.store.analytics.publish(now_ms())
        answers = local.left()
    parts.home.leave(answers)


@contextmanager
def open_installation(home: Home, config: Config, stop: threading.Event) -> Iterator[Installation]:
    """Open a home with all its parts, until the end of the block. The base model becomes its first champion.

    Raises:
        HomeError: no home there; the message names `flywheel init`.
    """
    if not home.exists:
        raise HomeError(f"{home.root} is no Flywheel home; make one with `flywheel --home {home.root} init`")
    home.init()
    with _store(home, config) as store:
        registry = Registry(home.models, store.models, config.trainer)
        registry.sweep()
        _crown_base(store, registry)
        check(store, config.promotion)
        titles = TitleCache(store.documents.titles)
        indexers = Indexers(registry, store.documents, home.indexes, titles.forget, stop.is_set)
        words = Words(store.documents, config.exploration.lexical_documents)
        learning = Learning(home, config, store, registry, indexers, words)
        parts = Parts(
            home=home,
            config=config,
            store=store,
            registry=registry,
            indexers=indexers,
            learning=learning,
            owner=uuid.uuid4().hex,
            now_ms=now_ms,
            stop=stop,
        )
        lineup = Lineup(store, registry.encoder, indexers, frozen_of(config.promotion))
        hasher = home.hasher()
        yield Installation(
            home=home,
            config=config,
            store=store,
            registry=registry,
            indexers=indexers,
            learning=learning,
            cycle=_cycle(parts),
            lineup=lineup,
            director=_director(parts, lineup),
            decoder=Decoder(config.signals, hasher, config.limits.message_bytes, config.mapping),
            hash_id=hasher,
            titles=titles,
            now_ms=now_ms,
            eraser=_eraser(home, config, store, hasher),
        )


def _eraser(home: Home, config: Config, store: Store, hasher: Callable[[str], str]) -> Eraser:
    """What keeps people's data as it must be, after it has finished what an earlier process left."""
    hash_sessions(store.database, hasher)
    ledger = Ledger(home.root, key_file(config.keeping.erasure_key_file, os.environ))
    eraser = Eraser(home, store, hasher, now_ms)
    eraser.listeners.append(ledger.add)
    if config.analytics.group:
        store.analytics.listeners.append(lambda: home.share(config.analytics.group))

    def needed() -> set[str]:
        """Versions that may still serve: those with a role, the one to go back to, the first, and the frozen one."""
        before = store.decisions.previous_champion()
        return {*store.models.aliases().values(), BASE, config.promotion.frozen_version, *([before] if before else [])}

    eraser.chores.append(Retention(home, store, config.keeping, needed, now_ms).step)
    backups.repeat_erasures(home, store, ledger, hasher)
    eraser.finish()
    return eraser


def restore(home: Path, source: Path, environ: Mapping[str, str]) -> dict[str, object]:
    """Put a backup in the home's place, and erase again whoever was erased since it was made.

    Raises:
        OperationError: no whole backup, or a daemon serves the home.
    """
    place = Home(home)
    answer = backups.put_back(place, source)
    with open_installation(place, load(home, environ), threading.Event()) as parts:
        parts.store.analytics.publish(now_ms())
    return answer


def _store(home: Home, config: Config) -> Store:
    return Store.open(
        home.database,
        memory_gb=config.limits.duckdb_memory_gb,
        dedupe_hours=config.signals.dedupe_hours,
        watermark_minutes=config.signals.watermark_minutes,
        sql_at_once=config.limits.sql_at_once,
    )


def _director(parts: Parts, lineup: Lineup) -> Director:
    store, config, policy = parts.store, parts.config, policy_of(parts.config)
    stages = live_stages(store.tally, config, policy)
    stages["shadow"] = ShadowStage(store, shadow_policy(config), lineup.side, stopping=parts.stop.is_set)
    return Director(
        store,
        config.promotion,
        stages,
        policy,
        ready=lineup.make_ready,
        now_ms=now_ms,
        judged_by=lambda from_ms: fixed(store, config, from_ms),
    )


def run_daemon(home: Path, environ: Mapping[str, str]) -> int:
    """Serve a home until SIGTERM or SIGINT; returns the exit code."""
    from flywheel.daemon.serve import serve
    from flywheel.page.dashboard import ROUTES

    return serve(Home(home), load(home, environ), open_installation, now_ms, ROUTES)


def _cycle(parts: Parts) -> Cycle:
    cycle = Cycle(parts)
    if parts.config.tracking.enabled:
        cycle.watchers.append(Tracker(parts.config.tracking, parts.home).record)
    if parts.config.tracking.wandb_project:
        cycle.watchers.append(Diary(parts.config.tracking, parts.home).record)
    return cycle


def _crown_base(store: Store, registry: Registry) -> None:
    """Make the base model the first champion, by a decision like any other."""
    base = registry.ensure_base(now_ms())
    if store.models.aliases().get(CHAMPION) is None:
        store.decisions.decide(
            Decision(
                decision_id="initial",
                kind="initial",
                version=BASE,
                actor="flywheel",
                ts_ms=now_ms(),
                reasons=(f"the first champion is the base model ({base.path})",),
                alias=CHAMPION,
            )
        )
