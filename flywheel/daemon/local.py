"""`Operations` on a home that this process has open: the daemon serves them, and commands use them without a daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumers.decode import Decoder
from flywheel.daemon import audit
from flywheel.daemon import doctor as checkup
from flywheel.daemon.intake import imports, sampled
from flywheel.daemon.intake.records import Records
from flywheel.daemon.keeping import backups
from flywheel.daemon.keeping.erasing import Eraser
from flywheel.events import Coordinates
from flywheel.experiments import director as experiment
from flywheel.experiments import frozen
from flywheel.experiments.director import Director
from flywheel.experiments.lineup import Lineup
from flywheel.learning.cycle import Cycle
from flywheel.learning.snapshot import Learning
from flywheel.operations import Json, JudgedKind, OperationError, RecordKind
from flywheel.retrieval.indexer import Indexers
from flywheel.retrieval.registry import Registry
from flywheel.retrieval.titles import TitleCache
from flywheel.settings.home import Home
from flywheel.settings.load import Config, ConfigError
from flywheel.settings.memory import MemoryBudget
from flywheel.stats.budget import ErrorBudget
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.feedback.letters import Wanted
from flywheel.store.schema.errors import SqlBusy, SqlRefused
from flywheel.store.state import PAUSED
from flywheel.store.store import Store
from trainer.process.launch import read_progress

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Installation:
    """A home with everything open; `flywheel.app` builds it."""

    home: Home
    config: Config
    store: Store
    registry: Registry
    indexers: Indexers
    learning: Learning
    cycle: Cycle
    lineup: Lineup
    director: Director
    decoder: Decoder
    hash_id: Callable[[str], str]
    titles: TitleCache
    now_ms: Callable[[], int]
    eraser: Eraser


@dataclass(frozen=True)
class DaemonHooks:
    """What only a running daemon has; the defaults are those of a command without a daemon.

    `turn(wait, tier)` runs or queues a cycle, `activate` is called with a new champion, `configured` with changed
    settings, `status` adds to the report. `sql_age_seconds` is how old the published folder may be that answers a
    statement.
    """

    turn: Callable[[bool, str | None], Json]
    activate: Callable[[str], None] = lambda _: None
    configured: Callable[[Config], None] = lambda _: None
    status: Callable[[], Json] = lambda: {
        "uptime": None,
        "broker": {"phase": "no daemon runs on this home"},
        "ingest": {"lag": None, "rate": None},
    }
    sql_age_seconds: float = 0.0


class LocalOperations:
    """See `flywheel.operations.Operations`."""

    def __init__(self, installation: Installation, live: DaemonHooks) -> None:
        self._in = installation
        self._live = live

    @property
    def _records(self) -> Records:
        return Records(self._in.store, self._in.decoder, self._in.config.kafka)

    def status(self) -> Json:
        store, live = self._in.store, self._live.status()
        champion, run, tried = self._champion(), store.runs.active(), store.experiments.live()
        report = {
            "ingest": {**store.feedback.counts(), **live.pop("ingest")},
            "marked": asdict(store.traffic.marked()),
            "evidence": store.checks.latest(),
            "sampled_precision": store.state.get(sampled.STATE),
            "triggers": self.triggers(),
            "cycle": {
                "paused": bool(store.state.get(PAUSED, False)),
                "running": None if run is None else {"run_id": run.run_id, "state": run.state, "version": run.version},
                "last": self._last_run(),
            },
            "champion": champion,
            "index": self._in.indexers.counts(champion["index_id"]),
            "experiment": None if tried is None else _plain(tried),
            "experiments": experiment.report(store),
            "verdicts": dict(Counter(decision.kind for decision in store.decisions.all())),
            "budget": self._budget(),
            "frozen": frozen.report(store, self._in.config.promotion),
            "erasure": self._in.eraser.status(),
            "memory": self._memory(champion["index_id"]),
            "training": None if run is None else read_progress(self._in.registry.path(str(run.version))),
        }
        return report | live | {"problems": {**live.get("problems", {}), **experiment.problems(store)}}

    def left(self) -> Json:
        """What commands ask most, as it stands without a daemon: for `flywheel.settings.home.Home.leave`."""
        here = LocalOperations(self._in, DaemonHooks(turn=self._live.turn))
        return {"status": here.status(), "models": here.models(), "triggers": here.triggers()}

    def _budget(self) -> Json:
        """The level that the next challenger gets, and its part of a fresh budget's first level."""
        budget = ErrorBudget(alpha=self._in.config.promotion.alpha)
        level = budget.next_alpha(self._in.store.decisions.spent(), self._in.store.feedback.watermark_ms())
        return {"next_alpha": level, "left": level / budget.next_alpha(())}

    def models(self) -> list[Json]:
        store = self._in.store
        roles = {version: alias for alias, version in store.models.aliases().items()}
        fields = {run.run_id: (run.report or {}).get("field") for run in store.runs.all()}
        return [
            {
                "version": model.version,
                "alias": roles.get(model.version),
                "state": model.state,
                "tier": model.tier,
                "parent": model.parent,
                "path": str(self._in.registry.path(model.version).resolve()),
                "index_id": model.index_id,
                "created_at": _iso(model.created_at_ms),
                "metrics": dict(model.metrics),
                "field": fields.get(str(model.run_id)),
            }
            for model in store.models.all()
        ]

    def experiments(self) -> list[Json]:
        store = self._in.store
        return [{**_plain(item), "outcomes": store.outcomes.of(item.experiment_id)} for item in store.experiments.all()]

    def triggers(self) -> list[Json]:
        latest: dict[str, Json] = {}
        fired = self._in.store.runs.last_fired()
        for check in self._in.store.runs.checks(limit=40):
            last = _iso(fired.get(check["name"]))
            latest.setdefault(check["name"], {**check, "ts": _iso(check.pop("ts_ms")), "last_fired": last})
        return list(latest.values())

    def decisions(self) -> list[Json]:
        return [_plain(row) for row in self._in.store.decisions.all()]

    def cycle(self, wait: bool, tier: str | None = None) -> Json:
        try:
            return self._live.turn(wait, tier)
        finally:
            self._in.store.analytics.outdate()

    def promote(self, version: str, reason: str, actor: str) -> Json:
        store = self._in.store
        champion = self._champion()["version"]
        if store.models.get(version) is None:
            versions = ", ".join(model.version for model in store.models.all())
            raise OperationError(f"there is no model version {version!r}; there are {versions}", "unknown_version")
        if version == champion:
            raise OperationError(f"{version} is the champion already", "already_champion")
        return self._switch("manual", version, champion, (reason,), actor)

    def rollback(self, reason: str, actor: str) -> Json:
        champion = self._champion()["version"]
        target = self._in.store.decisions.previous_champion()
        if target is None:
            raise OperationError(f"{champion} is the first champion; there is none to go back to", "no_previous")
        return self._switch("rollback", target, champion, (reason,), actor)

    def pause(self) -> Json:
        return self._set_paused(True)

    def resume(self) -> Json:
        return self._set_paused(False)

    def sql(self, statement: str) -> pa.Table:
        try:
            return self._in.store.sql.query(
                statement, self._in.config.limits, max_age_seconds=self._live.sql_age_seconds, now_ms=self._in.now_ms
            )
        except SqlRefused as error:
            raise OperationError(str(error), "sql_refused") from error
        except SqlBusy as error:
            raise OperationError(str(error), "sql_busy") from error

    def import_records(self, kind: RecordKind, records: list[Json]) -> Json:
        try:
            return imports.records(self._in, kind, records)
        finally:
            self._in.store.analytics.outdate()

    def import_judged(self, kind: JudgedKind, name: str, queries: list[Json], judgements: list[Json]) -> Json:
        try:
            return imports.judged(self._in, kind, name, queries, judgements)
        finally:
            self._in.store.analytics.outdate()

    def seen_documents(self) -> list[str]:
        return sorted(self._in.store.pairs.trained_documents())

    def erase_user(self, user_id: str) -> Json:
        try:
            return self._in.eraser.erase(user_id)
        finally:
            self._in.store.analytics.outdate()

    def backup(self, path: str) -> Json:
        return backups.backup(self._in.home, self._in.store.database, Path(path), self._in.now_ms())

    def doctor(self) -> list[Json]:
        return checkup.run(self._in.home, self._in.config, self._in.store, self._in.registry)

    def arrivals(self, minutes: float) -> Json:
        return self._records.arrivals(minutes, self._in.now_ms())

    def dead_letters(self, reason: str | None, field: str | None, topic: str | None, limit: int) -> Json:
        return self._records.dead_letters(Wanted(reason, field, topic), limit)

    def dead_letter(self, topic: str, partition: int, offset: int) -> list[Json]:
        return self._in.store.dead_letters.at(Coordinates(topic, partition, offset))

    def replay_dead_letters(self, reason: str | None, field: str | None, topic: str | None) -> Json:
        return self._records.replay(Wanted(reason, field, topic), self._in.now_ms())

    def configure(self, key: str, value: str, actor: str) -> Json:
        try:
            changed, config = audit.configure(self._in.store, self._in.home, key, value, actor, self._in.now_ms())
        except ConfigError as error:
            raise OperationError(str(error), "invalid_setting") from error
        self._live.configured(config)
        self._in.store.analytics.outdate()
        return changed

    def _memory(self, index_id: str) -> Json:
        shares = {"index": self._in.indexers.memory_bytes(index_id), "database": self._in.store.database.memory_bytes()}
        return dict(MemoryBudget(self._in.config.limits.memory_gb).status(shares))

    def _champion(self) -> Json:
        model = self._in.store.models.champion()
        if model is None:
            raise OperationError("no champion yet; run `flywheel cycle` or `flywheel run` once", "no_champion")
        return {"version": model.version, "tier": model.tier, "index_id": model.index_id, "parent": model.parent}

    def _last_run(self) -> Json | None:
        run = self._in.store.runs.last()
        if run is None:
            return None
        field = (run.report or {}).get("field")
        return {**{key: value for key, value in _plain(run).items() if key != "report"}, "field": field}

    def _switch(self, kind: str, version: str, champion: str, reasons: tuple[str, ...], actor: str) -> Json:
        store = self._in.store
        self._make_ready(version, champion)
        with store.database.write():  # one switch at a time, and only from the champion that the caller saw
            now = self._champion()["version"]
            if now != champion:
                raise OperationError(f"{now} became the champion meanwhile; look again, and repeat it", "conflict")
            decision = Decision(
                decision_id=f"{kind}-{len(store.decisions.all()) + 1:06d}",
                kind=kind,
                version=version,
                actor=actor,
                ts_ms=self._in.now_ms(),
                reasons=reasons,
                previous=champion,
                alias=CHAMPION,
            )
            store.decisions.decide(decision)
        self._in.store.analytics.outdate()
        self._live.activate(version)
        return {"decision_id": decision.decision_id, "champion": version, "previous": champion}

    def _make_ready(self, version: str, champion: str) -> None:
        """Load the version, and bring its index up to date if it has its own, before anything is switched to it."""
        try:
            indexer, present = self._in.indexers.of(version), self._in.store.models.get(champion)
            if present is None or indexer.index.index_id != present.index_id:
                indexer.catch_up()
        except (OSError, ValueError) as error:
            raise OperationError(
                f"{version} cannot be loaded from {self._in.registry.path(version)}: {error}; {champion} stays. Put "
                "the directory back from a backup, or name another version to `flywheel promote`",
                "not_loadable",
            ) from error

    def _set_paused(self, paused: bool) -> Json:
        self._in.store.state.set(PAUSED, paused, self._in.now_ms())
        return {"paused": paused}


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _plain(record: Any) -> Json:
    """A slotted record as plain values; times in epoch milliseconds become ISO, under a name without `_ms`."""
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {
        name.removesuffix("_ms"): _iso(value)
        if name.endswith("_at_ms") or name == "ts_ms"
        else dict(value)
        if isinstance(value, Mapping)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }
