"""The check `scale`: shadow and verdict over a million stored pages, through the store, the index and real models.

Set-up, in processes of its own: a home with a collection, a challenger that the trainer made from earlier pages, and
the pages. Measured, each in a fresh process with two threads: a quarter of the pages, all of them, and a few more.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.references import ranked
from flywheel.app import now_ms, open_installation
from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.events import normalise_query
from flywheel.experiments.shadow import Shadow, Side
from flywheel.experiments.shadow_stage import shadow_policy
from flywheel.files.beir import read_corpus
from flywheel.gates.judged import policy_of
from flywheel.gates.live import LiveEvidence, decide_live
from flywheel.rehearsal.corpus import build
from flywheel.rehearsal.people import People
from flywheel.settings.home import Home
from flywheel.settings.load import load
from flywheel.store.evaluation.tally import Comparison
from flywheel.store.feedback.rows import FEEDBACK, QUERIES
from flywheel.store.training.runs import TrainingRun
from trainer.data.recipe import ResourceBudget
from trainer.process.launch import launch, read_report

K, BATCH, CHUNK = 10, 5_000, 100_000
EARLIER, MORE = 40_000, 10_000
START_MS, DAY_MS = 1_750_000_000_000, 86_400_000
SPLIT_MS = START_MS + 10 * DAY_MS
END_MS = SPLIT_MS + 40 * DAY_MS
DOCUMENTS, DISTINCT = 5_000, 3_000
SETTINGS = {"FLYWHEEL__LIMITS__DUCKDB_MEMORY_GB": "1.0", "FLYWHEEL__TRAINER__TIER": "adapter"}


@dataclass(frozen=True)
class Room:
    """Where it happens, and with what."""

    home: Path
    beir: Path | None
    seed: int


def scale(seed: int, *, beir: Path | None = None, pages: int = 1_000_000) -> dict[str, Any]:
    """Seconds and peak memory of shadow and verdict over `pages` pages; a quarter of them first, to compare."""
    room = Room(Path(tempfile.mkdtemp(prefix="flywheel-scale-")) / "home", beir, seed)
    started = time.perf_counter()
    try:
        _apart(_prepare, room)
        _apart(_fill, room, 0, pages // 4)
        ready = time.perf_counter() - started
        quarter = _apart(_judge, room, "quarter")
        filling = time.perf_counter()
        _apart(_fill, room, pages // 4, pages)
        ready += time.perf_counter() - filling
        whole = _apart(_judge, room, "whole")
        _apart(_fill, room, pages, pages + MORE)
        more = _apart(_judge, room, "whole")
    finally:
        shutil.rmtree(room.home.parent, ignore_errors=True)
    if whole["shadow_pages"] != pages or whole["tally_pages"] != pages:
        raise SystemExit(f"counted {whole['shadow_pages']} and {whole['tally_pages']} of {pages} pages")
    return {
        "seconds": whole["seconds"],
        "peak_mb": whole["peak_mb"],
        "pages": pages,
        "peak_mb_quarter": quarter["peak_mb"],
        "seconds_quarter": quarter["seconds"],
        "seconds_more": more["seconds"],
        "pages_more": MORE,
        "setup_seconds": round(ready, 1),
        "whole": whole,
    }


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a fresh process, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, *arguments))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = None
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} ended with {process.exitcode}")
    return found


def _answer(pipe: Any, work: Callable[..., Any], *arguments: Any) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    pipe.send(work(*arguments))


@contextmanager
def _open(room: Room) -> Iterator[Installation]:
    home = Home(room.home)
    if not home.exists:
        home.init()
    with open_installation(home, load(room.home, SETTINGS), threading.Event()) as parts:
        yield parts


def _say(text: str) -> None:
    print(f"scale: {text}", file=sys.stderr, flush=True)


def _prepare(room: Room) -> None:
    """Documents, vectors, earlier pages with clicks, and a challenger trained on what they say."""
    with _open(room) as parts:
        operations = LocalOperations(parts, DaemonHooks(turn=lambda *_: {}))
        documents = list(read_corpus(room.beir)) if room.beir else list(build().documents)[:DOCUMENTS]
        rows = [{"doc_id": d.doc_id, "title": d.title, "text": d.text} for d in documents]
        operations.import_records("documents", rows)
        _say(f"encoding {len(rows)} documents")
        parts.indexers.of("base").catch_up()
        asked = _questions(rows, np.random.default_rng(room.seed))
        tops = ranked(parts, [text for text, _ in asked], K)
        _save(room, "base", asked, tops)
        _write_pages(parts, room, [tops], ["base"], (0, EARLIER), (START_MS, SPLIT_MS))
        version = _challenger(parts)
        challenger = _side(parts, version).rank([text for text, _ in asked], K)
        _save(room, version, asked, challenger)
        _say(f"challenger {version}")


def _questions(rows: list[dict[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    """Distinct queries of some words that stand together in a document, with that document."""
    found: dict[str, tuple[str, str]] = {}
    while len(found) < DISTINCT:
        row = rows[int(rng.integers(len(rows)))]
        words = f"{row['title']} {row['text']}".split()
        start = int(rng.integers(max(1, len(words) - 6)))
        text = " ".join(words[start : start + int(rng.integers(3, 7))])
        if normalise_query(text):
            found.setdefault(normalise_query(text), (text, row["doc_id"]))
    return list(found.values())


def _save(room: Room, version: str, asked: list[tuple[str, str]], tops: list[list[str]]) -> None:
    texts, answers = ([pair[side] for pair in asked] for side in (0, 1))
    np.savez(room.home.parent / version, texts=texts, answers=answers, tops=np.array(tops))


def _challenger(parts: Installation) -> str:
    """A version that the product's own learning and trainer made from the earlier pages."""
    run = TrainingRun(
        "run-0001", "manual", "adapter", "started", now_ms(), None, "base", "v1", until_ms=SPLIT_MS, seed=1
    )
    parts.store.runs.start(run, "benchmark")
    parts.learning.gather(run)
    folder, out = parts.learning.snapshot(run), parts.registry.path("v1")
    if launch(folder, out, replace(ResourceBudget.of(parts.config.limits), threads=2)).wait():
        raise RuntimeError(f"training failed: {(read_report(out) or {}).get('error')}")
    parts.registry.adopt("v1")
    parts.store.runs.finish(run.run_id, "done", now_ms())
    return "v1"


def _fill(room: Room, first: int, last: int) -> None:
    """Pages of a split, half by either model."""
    with _open(room) as parts:
        tops = [np.load(room.home.parent / f"{name}.npz")["tops"].tolist() for name in ("base", "v1")]
        for start in range(first, last, CHUNK):
            end = min(start + CHUNK, last)
            span = [SPLIT_MS + int((END_MS - SPLIT_MS) * part / last) for part in (max(first, start), end)]
            _write_pages(parts, room, tops, ["base", "v1"], (start + EARLIER, end + EARLIER), (span[0], span[1]))
            _say(f"{end} pages")


def _write_pages(
    parts: Installation,
    room: Room,
    tops: list[list[list[str]]],
    versions: list[str],
    numbers: tuple[int, int],
    span: tuple[int, int],
) -> None:
    """Straight into the tables, numbered in batches as ingestion would: heavy-tailed users, Zipf's queries."""
    rng = np.random.default_rng([room.seed, numbers[0]])
    known = np.load(room.home.parent / "base.npz")
    count = numbers[1] - numbers[0]
    asked = 1 / np.arange(1, DISTINCT + 1) ** 0.8
    query = rng.choice(DISTINCT, count, p=asked / asked.sum())
    user = np.minimum((rng.pareto(1.2, count) * 3_000).astype(np.int64), 150_000)
    arm = user % len(versions)
    shown = np.array(tops)[arm, query]
    relevant = shown == known["answers"][query][:, None]
    did = People("pbm").react(relevant, rng)
    page, place = np.nonzero(did.dwell_ms)
    ts = span[0] + 1 + np.sort(rng.integers(0, span[1] - span[0], count))
    ids = np.char.add("page-", np.arange(*numbers).astype(str))
    texts = known["texts"][query].tolist()
    batch = np.arange(*numbers) // BATCH + 1
    people = np.char.add("user-", user.astype(str))
    offsets = np.arange(0, count * K + 1, K, dtype=np.int32)
    columns = {"query_id": ids, "query_key": [normalise_query(text) for text in texts], "text": texts, "ts": ts}
    columns |= {"user_key": people, "ingested_at": ts, "batch": batch, "model_version": np.array(versions)[arm]}
    columns |= {"hit_ids": pa.ListArray.from_arrays(offsets, shown.ravel().tolist())}
    if len(versions) > 1:  # a sticky split is no experiment on slots: only pages where both agree are sure
        same = (np.array(tops[0]) == np.array(tops[1]))[query]
        columns |= {"propensities": pa.ListArray.from_arrays(offsets, np.where(same, 1.0, 0.5).ravel())}
        columns |= {"latency_ms": rng.gamma(4.0, 3.0, count)}
    acts = {"query_id": ids[page], "doc_id": shown[page, place], "dwell_ms": did.dwell_ms[page, place]}
    acts |= {"ts": ts[page] + 60_000, "ingested_at": ts[page], "batch": batch[page], "user_key": people[page]}
    for kind in ("click", "dwell"):
        acts |= {"event_id": np.char.add(f"{kind}-{numbers[0]}-", np.arange(len(page)).astype(str))}
        _insert(parts, "feedback", FEEDBACK, acts | {"kind": [kind] * len(page)})
    _insert(parts, "queries", QUERIES, columns)
    totals = {"batch": int(batch[-1]), "max_ts_ms": int(ts[-1]), "closing_ms": int(ts[-1])}
    with parts.store.database.write() as con:  # as ingestion would: late pages are told by their batch
        for total in totals.items():
            con.execute("INSERT OR REPLACE INTO ingest_totals VALUES (?, ?)", total)


def _insert(parts: Installation, table: str, schema: pa.Schema, columns: dict[str, Any]) -> None:
    count = len(columns["query_id"])
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    with parts.store.database.write() as con:
        con.register("made_up", pa.Table.from_arrays(arrays, schema=schema))
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM made_up")
        con.unregister("made_up")


def _side(parts: Installation, version: str) -> Side:
    indexer = parts.indexers.of(version)
    indexer.catch_up()
    return Side(parts.registry.encoder(version), indexer.index)


def _peak_mb() -> int:
    """The most memory that this process ever had, MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _judge(room: Room, name: str) -> dict[str, Any]:
    """The measured path: load both models, shadow what was not read yet, tally what was not counted yet, decide."""
    with _open(room) as parts:
        started = time.perf_counter()
        champion, challenger = _side(parts, "base"), _side(parts, "v1")
        loaded, models_peak = time.perf_counter(), _peak_mb()
        policy = shadow_policy(parts.config)
        reading = replace(policy.reading, cap=10_000_000)
        policy = replace(policy, step_pages=50_000, step_queries=256, reading=reading)
        shadow = Shadow(parts.store.shadows, name, policy, time.perf_counter)
        shadow.begin("run-0001", SPLIT_MS)
        steps = 0
        while shadow.step(champion, challenger, END_MS + DAY_MS):
            steps += 1
        read, shadow_peak = time.perf_counter(), _peak_mb()
        screened = shadow.verdict()
        screened_at = time.perf_counter()
        satisfied_ms = parts.config.signals.satisfied_ms
        comparison = Comparison(name, "base", "v1", satisfied_ms, cap=10_000_000, from_ms=SPLIT_MS, tagged=True)
        parts.store.tally.advance(comparison, END_MS + DAY_MS)
        counted = time.perf_counter()
        tallied = parts.store.tally.sums(name)
        evidence = LiveEvidence(
            tallied.metrics, tallied.steady.get("satisfied_ctr"), users=tallied.users, crossed=tallied.crossed
        )
        decision = decide_live(evidence, policy_of(parts.config), 0.05)
        ended = time.perf_counter()
        progress = parts.store.shadows.progress(name)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(ended - started, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": _peak_mb(),
        "shadow_peak_mb": shadow_peak,
        "models_peak_mb": models_peak,
        "load_seconds": round(loaded - started, 2),
        "shadow_seconds": round(read - loaded, 2),
        "shadow_verdict_seconds": round(screened_at - read, 2),
        "tally_seconds": round(counted - screened_at, 2),
        "verdict_seconds": round(ended - counted, 2),
        "shadow_pages": 0 if progress is None else progress.pages,
        "tally_pages": tallied.pages,
        "steps": steps,
        "shadow": screened.reasons[0],
        "verdict": decision.reasons[0],
    }
