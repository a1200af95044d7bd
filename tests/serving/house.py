"""A small house behind the API: a real index over word vectors, a broker in memory, operations that remember."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from prometheus_client import CollectorRegistry

from consumers.decode import Decoder
from flywheel.daemon.intake.records import judge
from flywheel.operations import OperationError
from flywheel.page.dashboard import ROUTES
from flywheel.retrieval.index import Index
from flywheel.serving.endpoints.app import create_app
from flywheel.serving.engine import SearchEngine
from flywheel.serving.served import Live, Vectors
from flywheel.serving.server import HttpServer
from flywheel.serving.services import Judge, NotAcknowledged, Services, TooLarge
from flywheel.serving.tracing import Spans, none
from flywheel.settings.load import Limits, Serving, Signals

DOCUMENTS = {
    "copy": "shallow copy of a list",
    "deepcopy": "deep copy of nested objects",
    "sort": "sort a list in place",
    "json": "parse json text",
    "csv": "read csv files with a header",
    "retry": "retry a failed request",
}


class WordEncoder:
    """Texts as sums of fixed random word vectors; `tilt` makes another model of it."""

    dimension = 32

    def __init__(self, tilt: int = 0) -> None:
        self.tilt = tilt
        self.batches: list[int] = []
        self.busy = threading.Lock()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        if not self.busy.acquire(blocking=False):
            raise AssertionError("two threads encode at the same time")
        try:
            self.batches.append(len(texts))
            return self._encode(texts, self.tilt)
        finally:
            self.busy.release()

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, 0)

    def _encode(self, texts: Sequence[str], tilt: int) -> Vectors:
        rows = [np.sum([self._word(word, tilt) for word in text.lower().split()], axis=0) for text in texts]
        vectors = np.asarray(rows, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _word(self, word: str, tilt: int) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        vector = np.random.default_rng(seed).normal(size=self.dimension)
        return np.roll(vector, tilt) if tilt else vector


@dataclass
class MemoryTitles:
    known: dict[str, str]

    def titles(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        return {doc_id: self.known[doc_id] for doc_id in doc_ids if doc_id in self.known}


@dataclass
class MemoryBroker:
    """Holds what it acknowledged; while `down` it refuses, while `silent` it never answers, and above `most_bytes` it
    never takes a message."""

    held: dict[str, list[bytes]] = field(default_factory=lambda: {"queries": [], "events": []})
    down: bool = False
    silent: bool = False
    most_bytes: int = 10_000_000

    async def publish(self, kind: str, payloads: Sequence[bytes]) -> None:
        if self.down:
            raise NotAcknowledged("the broker is away")
        while self.silent:
            await asyncio.sleep(0.005)
        large = {n: f"{len(p)} bytes are too many" for n, p in enumerate(payloads) if len(p) > self.most_bytes}
        self.held[kind].extend(payload for n, payload in enumerate(payloads) if n not in large)
        if large:
            raise TooLarge(large)


class MemoryOperations:
    """Remembers what was asked; while `broken` its status cannot be read."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.blocked = threading.Event()
        self.broken = False
        self.table = pa.table({"n": [1, 2], "name": ["a", None]})

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("no status")
        return {"ingest": {"events": 7, "rate": 1.5, "lag": 3}, "broker": {"connected": True}, "uptime": 12.0}

    def models(self) -> list[dict[str, Any]]:
        return [{"version": "base", "alias": "champion", "metrics": {"ndcg@10": float("nan")}}]

    def experiments(self) -> list[dict[str, Any]]:
        return []

    def triggers(self) -> list[dict[str, Any]]:
        return []

    def decisions(self) -> list[dict[str, Any]]:
        return []

    def cycle(self, wait: bool, tier: str | None = None) -> dict[str, Any]:
        self.calls.append(("cycle", {"wait": wait, "tier": tier}))
        if wait:
            self.blocked.wait(30)
        return {"accepted": True}

    def promote(self, version: str, reason: str, actor: str) -> dict[str, Any]:
        if version == "ghost":
            raise OperationError("there is no version 'ghost'; see `flywheel models`", "not_found")
        self.calls.append(("promote", {"version": version, "reason": reason, "actor": actor}))
        return {"version": version}

    def configure(self, key: str, value: str, actor: str) -> dict[str, Any]:
        self.calls.append(("configure", {"key": key, "value": value, "actor": actor}))
        return {"key": key}

    def rollback(self, reason: str, actor: str) -> dict[str, Any]:
        self.calls.append(("rollback", {"reason": reason, "actor": actor}))
        return {"version": "base"}

    def pause(self) -> dict[str, Any]:
        self.calls.append(("pause", {}))
        return {"paused": True}

    def resume(self) -> dict[str, Any]:
        raise RuntimeError("secret internals")

    def sql(self, statement: str) -> pa.Table:
        if "drop" in statement:
            raise OperationError("only SELECT statements are answered here", "refused")
        return self.table

    def import_records(self, kind: str, records: list[dict[str, Any]]) -> dict[str, Any]:
        self.calls.append(("import_records", {"kind": kind, "records": len(records)}))
        return {"read": len(records), "stored": len(records), "skipped": 0, "reasons": {}}

    def import_judged(self, kind: str, name: str, queries: list[Any], judgements: list[Any]) -> dict[str, Any]:
        return {"read": len(judgements)}

    def seen_documents(self) -> list[str]:
        return ["copy"]

    def erase_user(self, user_id: str) -> dict[str, Any]:
        return {"erased": 0}

    def backup(self, path: str) -> dict[str, Any]:
        self.calls.append(("backup", {"path": path}))
        return {"path": path}

    def doctor(self) -> list[dict[str, Any]]:
        return []

    def arrivals(self, minutes: float) -> dict[str, Any]:
        return {"since_minutes": minutes, "arrivals": [], "unknown_actions": {}, "suggestion": None}

    def dead_letters(self, reason: str | None, field: str | None, topic: str | None, limit: int) -> dict[str, Any]:
        return {"waiting": 0, "groups": []}

    def dead_letter(self, topic: str, partition: int, offset: int) -> list[dict[str, Any]]:
        return []

    def replay_dead_letters(self, reason: str | None, field: str | None, topic: str | None) -> dict[str, Any]:
        return {"stored": 0, "repeated": 0, "still": 0, "reasons": {}}


@dataclass
class House:
    engine: SearchEngine
    titles: MemoryTitles
    broker: MemoryBroker
    operations: MemoryOperations
    index: Index
    encoder: WordEncoder
    reasons: list[str]
    http: httpx.Client
    url: str


def make_index(encoder: WordEncoder, documents: Mapping[str, str] = DOCUMENTS) -> Index:
    index = Index("space-1", encoder.dimension)
    index.add(list(documents), encoder.encode_documents(list(documents.values())), ["h"] * len(documents))
    return index


def make_engine(titles: MemoryTitles, live: Live | None) -> SearchEngine:
    """Latency is one second a reading, so that a page that reads the clock twice took 1,000 ms."""
    ticks = itertools.count()
    return SearchEngine(
        titles, now_ms=lambda: 1_700_000_000_123, seconds=lambda: float(next(ticks)), cache_queries=1_000, live=live
    )


@contextmanager
def serve(
    *,
    settings: Serving | None = None,
    limits: Limits | None = None,
    live: bool = True,
    judging: Judge | None = None,
    spans: Spans = none,
):
    """The house over a real server on a free loopback port."""
    encoder = WordEncoder()
    index = make_index(encoder)
    titles = MemoryTitles(dict(DOCUMENTS))
    engine = make_engine(titles, Live("base", encoder, index) if live else None)
    broker, operations, reasons = MemoryBroker(), MemoryOperations(), []
    services = Services(
        search=engine,
        operations=operations,
        publisher=broker,
        judge=judging or judge(Decoder(Signals(), str, 1_048_576)),
        settings=settings or Serving(port=0),
        limits=limits or Limits(),
        registry=CollectorRegistry(),
        ready=lambda: list(reasons),
        pages=ROUTES,
        spans=spans,
    )
    app = create_app(services, now_ms=lambda: 1_700_000_000_123)
    with (
        HttpServer(app, "127.0.0.1", 0) as server,
        httpx.Client(base_url=server.url, timeout=20, trust_env=False) as http,
    ):
        yield House(engine, titles, broker, operations, index, encoder, reasons, http, server.url)


def eventually(condition, seconds: float = 10.0) -> None:
    """Wait until it holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("did not happen in time")
        time.sleep(0.01)
