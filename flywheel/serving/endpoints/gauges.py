"""Which figures of the status Prometheus sees, under which name, of which type, and what each means.

Names follow https://prometheus.io/docs/practices/naming: base units, `_total` for counters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from flywheel.operations import Json

Samples = Iterator[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric: where its samples stand in the status, each with the values of its `labels`."""

    name: str
    kind: Literal["gauge", "counter"]
    meaning: str
    read: Callable[[Json], Samples]
    labels: tuple[str, ...] = ()

    def family(self, status: Json) -> Metric:
        """The metric with its samples; without any where the status knows no value."""
        made: GaugeMetricFamily | CounterMetricFamily
        if self.kind == "counter":
            made = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        else:
            made = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in self.read(status):
            made.add_metric(list(labels), value)
        return made


def _at(*path: str) -> Callable[[Json], Samples]:
    """The number at a path of the status, or nothing."""

    def read(status: Json) -> Samples:
        value: Any = status
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool | int | float):
            yield (), float(value)

    return read


def _trigger(key: str) -> Callable[[Json], Samples]:
    def read(status: Json) -> Samples:
        for check in status.get("triggers", ()):
            value = check.get(key)
            if isinstance(value, bool | int | float):
                yield (str(check["name"]),), float(value)

    return read


def _lags(status: Json) -> Samples:
    for place in status.get("ingest", {}).get("partitions", ()):
        yield (str(place["topic"]), str(place["partition"])), float(place["lag"])


def _keys(*path: str) -> Callable[[Json], Samples]:
    """A sample for each key of the mapping at a path."""

    def read(status: Json) -> Samples:
        value: Any = status
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        for key, number in (value or {}).items():
            yield (str(key),), float(number) if isinstance(number, int | float) else 1.0

    return read


def _champion(status: Json) -> Samples:
    champion = status.get("champion") or {}
    yield (str(champion.get("version")), str(champion.get("tier"))), 1.0


def _ready(status: Json) -> Samples:
    if "ready" in status:
        yield (), float(not status["ready"])


def _running(status: Json) -> Samples:
    yield (), float(status.get("cycle", {}).get("running") is not None)


def _live(status: Json) -> Samples:
    live = status.get("experiment")
    yield (), float(live is not None)


EXPOSED = (
    Exposed("flywheel_uptime_seconds", "gauge", "Time since the daemon started.", _at("uptime")),
    Exposed("flywheel_ready", "gauge", "1: searches are answered.", _ready),
    Exposed("flywheel_problem", "gauge", "1 for each part that is in trouble.", _keys("problems"), ("part",)),
    Exposed("flywheel_ingest_events", "counter", "Events stored.", _at("ingest", "events")),
    Exposed("flywheel_ingest_queries", "counter", "Pages stored.", _at("ingest", "queries")),
    Exposed(
        "flywheel_ingest_dead_letters", "counter", "Messages that could not be read.", _at("ingest", "dead_letters")
    ),
    Exposed(
        "flywheel_ingest_set_aside", "counter", "Records that the database could not hold.", _at("ingest", "set_aside")
    ),
    Exposed(
        "flywheel_ingest_lag_messages",
        "gauge",
        "Messages that the broker has and that are not stored; absent while it does not answer.",
        _lags,
        ("topic", "partition"),
    ),
    Exposed(
        "flywheel_ingest_stalled_seconds",
        "gauge",
        "How long ingestion has stood still, for whatever reason; 0 while it moves.",
        _at("ingest", "stalled_seconds"),
    ),
    Exposed("flywheel_unsent_messages", "gauge", "Messages that wait for the broker.", _at("broker", "unsent")),
    Exposed("flywheel_disk_free_bytes", "gauge", "Free disk below the home.", _at("disk", "free_bytes")),
    Exposed(
        "flywheel_disk_needed_bytes", "gauge", "Free disk below which ingestion waits.", _at("disk", "needed_bytes")
    ),
    Exposed(
        "flywheel_analytics_age_seconds",
        "gauge",
        "Time since analytics/ was published.",
        _at("analytics", "age_seconds"),
    ),
    Exposed("flywheel_index_documents", "gauge", "Documents in the champion's index.", _at("index", "documents")),
    Exposed("flywheel_index_pending_documents", "gauge", "Documents that wait for it.", _at("index", "pending")),
    Exposed("flywheel_champion_info", "gauge", "1, with who serves.", _champion, ("version", "tier")),
    Exposed("flywheel_ctr_ratio", "gauge", "Pages with a click, of the last closed week.", _at("rates", "ctr")),
    Exposed(
        "flywheel_satisfied_ctr_ratio",
        "gauge",
        "Pages with a satisfied click, of the last closed week.",
        _at("rates", "satisfied_ctr"),
    ),
    Exposed("flywheel_retraining_paused", "gauge", "1: retraining is paused.", _at("cycle", "paused")),
    Exposed("flywheel_training_running", "gauge", "1: a turn of the wheel is going on.", _running),
    Exposed("flywheel_training_steps_done", "gauge", "Steps of the running training.", _at("training", "step")),
    Exposed("flywheel_training_steps_planned", "gauge", "Steps it takes at most.", _at("training", "steps")),
    Exposed("flywheel_training_loss", "gauge", "Its loss.", _at("training", "loss")),
    Exposed("flywheel_training_dev_ndcg_ratio", "gauge", "Its nDCG on held-out pairs.", _at("training", "dev_ndcg")),
    Exposed("flywheel_trigger_value", "gauge", "What a threshold was held against.", _trigger("value"), ("trigger",)),
    Exposed("flywheel_trigger_threshold", "gauge", "The threshold.", _trigger("threshold"), ("trigger",)),
    Exposed("flywheel_trigger_fired", "gauge", "1: it asks, or holds back.", _trigger("fired"), ("trigger",)),
    Exposed("flywheel_verdicts", "counter", "Decisions by kind.", _keys("verdicts"), ("verdict",)),
    Exposed("flywheel_experiments_live", "gauge", "1: a challenger is tried on people.", _live),
    Exposed("flywheel_experiments_queued", "gauge", "Challengers that wait.", _at("experiments", "queued")),
    Exposed("flywheel_experiments_void", "gauge", "1: the last one compared nothing.", _at("experiments", "void")),
    Exposed(
        "flywheel_experiments_rolled_back",
        "gauge",
        "1: the last promotion was taken back by itself.",
        _at("experiments", "rolled_back"),
    ),
    Exposed(
        "flywheel_error_budget_next_alpha",
        "gauge",
        "The level that the error budget leaves to the next challenger.",
        _at("budget", "next_alpha"),
    ),
    Exposed(
        "flywheel_error_budget_left_ratio",
        "gauge",
        "That level beside the first of a fresh budget: 1 is an untouched one, and promotions earn more.",
        _at("budget", "left"),
    ),
)
