"""The checks of `flywheel doctor`: each says what it found and, where something is wrong, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from flywheel.broker import admin as broker
from flywheel.broker.codecs import missing_codecs
from flywheel.gates.decision import too_few
from flywheel.operations import Json
from flywheel.retrieval.encoder import knows
from flywheel.retrieval.origin import ModelMissing, inspect
from flywheel.retrieval.registry import IncompleteModel, Registry, read_manifest
from flywheel.retrieval.windows import beyond_window
from flywheel.settings.home import Home
from flywheel.settings.load import Config
from flywheel.store.store import Store


def run(home: Home, config: Config, store: Store, registry: Registry) -> list[Json]:
    """`{check, ok, detail}` for each: home, disk, database, broker, compression, champion, golden set and so on."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("home", lambda: _writable(home.root)),
        ("disk", lambda: _room(home.root, config.limits.min_free_mb)),
        ("database", lambda: _database(store)),
        ("broker", lambda: _broker(config)),
        ("compression", _codecs),
        ("champion", lambda: _champion(store, registry)),
        ("golden set", lambda: _golden(store, config.promotion.min_queries)),
        ("documents", lambda: _documents(store)),
        ("long documents", lambda: _long_documents(store, registry)),
        ("processor", _processor),
    ]
    return list(_ask(checks))


def _ask(checks: list[tuple[str, Callable[[], str]]]) -> Iterator[Json]:
    for name, check in checks:
        try:
            yield {"check": name, "ok": True, "detail": check()}
        except (OSError, ValueError, _Wrong) as problem:
            yield {"check": name, "ok": False, "detail": str(problem)}


class _Wrong(Exception):  # noqa: N818 - reads as what is the case
    """A check that did not pass; the message names the fix."""


def _writable(root: Path) -> str:
    if not os.access(root, os.W_OK):
        raise _Wrong(f"{root} is not writable; change its owner, or name another folder with --home")
    return str(root)


def _room(root: Path, least_mb: int) -> str:
    free_mb = shutil.disk_usage(root).free // 1_048_576
    if free_mb < least_mb:
        raise _Wrong(f"{free_mb} MB free, limits.min_free_mb asks for {least_mb}: ingestion waits until there is room")
    return f"{free_mb} MB free"


def _database(store: Store) -> str:
    counts = store.feedback.counts()
    return f"{counts['queries']} pages, {counts['events']} events, {counts['dead_letters']} dead letters"


def _broker(config: Config) -> str:
    name = broker.cluster_id(config.kafka)
    return f"cluster {name} at {config.kafka.bootstrap}"


def _codecs() -> str:
    missing = missing_codecs()
    if missing:
        raise _Wrong(
            f"messages packed with {', '.join(missing)} cannot be read; pip install 'kafka-python[lz4,snappy,zstd]'"
        )
    return "gzip, lz4, snappy and zstd can be read"


def _champion(store: Store, registry: Registry) -> str:
    model = store.models.champion()
    if model is None:
        raise _Wrong("none yet; the first `flywheel run` registers the base model")
    try:
        read_manifest(registry.path(model.version))
        inspect(registry.path(model.version), knows)
    except (IncompleteModel, ModelMissing) as problem:
        raise _Wrong(f"{problem}; `flywheel rollback` goes to the one before") from problem
    return f"{model.version} ({model.tier}), index {model.index_id}"


def _golden(store: Store, least: int) -> str:
    sets, coverage = store.golden.current("golden"), store.golden.coverage()
    queries = sum(len(coverage[judged.version].decidable) for judged in sets)
    problems = [f"{coverage[judged.version].problem()} ({judged.name})" for judged in sets
                if coverage[judged.version].problem()]  # fmt: skip
    few = too_few(queries, least)
    if few:
        advice = "; ".join(problems) or "`flywheel import golden DIR`"
        raise _Wrong(f"{queries} judged queries that can decide; {few}: {advice}")
    return "; ".join([f"{queries} judged queries in {len(sets)} sets", *problems])


def _documents(store: Store) -> str:
    count = store.documents.count()
    if not count:
        raise _Wrong("none; `flywheel import documents FILE`, or send them to the documents topic")
    return f"{count} documents"


def _long_documents(store: Store, registry: Registry) -> str:
    model = store.models.champion()
    if model is None or not store.documents.count():
        return "no documents or no model yet"
    try:
        beyond = beyond_window(registry.encoder(model.version), store.documents)
    except (IncompleteModel, ModelMissing):
        return "not counted: the champion cannot be loaded"
    if beyond.titles > 0:
        raise _Wrong(f"{beyond.sentence}; shorten those titles, or let the tokenizer cut texts at their end")
    return beyond.sentence


def _processor() -> str:
    from flywheel.retrieval.encoder import has_bf16, pick_device

    device = pick_device("auto")
    return f"{device}, {os.cpu_count()} cores, bfloat16 {'is' if has_bf16(device) else 'is not'} used"
