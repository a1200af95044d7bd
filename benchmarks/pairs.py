"""How long feedback takes to become training pairs: pages in the database -> evidence -> EM -> reading -> pairs table.

Prints one JSON object last: seconds and peak memory of that path (not of making the feedback up), and the pairs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import print_result
from flywheel.clicks import model as clicks
from flywheel.clicks.evidence import Evidence
from flywheel.clicks.sessions import Chains
from flywheel.learning.reading import JudgedEvidence, Seen, read
from flywheel.learning.snapshot import rules_of
from flywheel.rehearsal.people import SILENT, People
from flywheel.settings.load import Signals
from flywheel.store.feedback.rows import FEEDBACK, QUERIES
from flywheel.store.store import Store

PAGE = 10
START_MS = 1_750_000_000_000
DAY_MS = 86_400_000


def feedback(pages: int, first: int, rng: np.random.Generator, queries: int) -> tuple[pa.Table, pa.Table]:
    """Pages of Zipf-distributed queries ranked by two model versions, and pbm people's clicks and dwells on them."""
    query = np.minimum(rng.zipf(1.3, pages) - 1 + rng.integers(0, queries, pages) % 97, queries - 1)
    version = rng.integers(0, 2, pages)
    # a query's hits are consecutive documents, and the second version shows them in another order
    order = np.where(version[:, None] == 0, np.arange(PAGE), (np.arange(PAGE) * 7 + 3) % PAGE)
    document = query[:, None] * PAGE + order
    relevant = document % PAGE == query[:, None] % PAGE
    did = People("pbm", SILENT).react(relevant, rng)
    page, place = np.nonzero(did.clicked)
    ts = START_MS + np.sort(rng.integers(0, 60 * DAY_MS, pages))
    ids = [f"page-{first + i}" for i in range(pages)]
    users = [f"user-{u}" for u in rng.integers(0, max(1, pages // 4), pages)]
    names = np.char.add("doc-", document.ravel().astype(str))
    texts = [f"question number {q}" for q in query]
    shown = _table(
        QUERIES,
        pages,
        query_id=ids,
        query_key=texts,
        text=texts,
        ts=ts,
        user_key=users,
        hit_ids=pa.ListArray.from_arrays(np.arange(0, pages * PAGE + 1, PAGE, dtype=np.int32), names.tolist()),
        model_version=[f"v{v}" for v in version],
    )
    did_table = _table(
        FEEDBACK,
        len(page),
        event_id=[f"event-{first}-{i}" for i in range(len(page))],
        kind=["dwell"] * len(page),
        query_id=[ids[i] for i in page],
        doc_id=names.reshape(document.shape)[page, place].tolist(),
        dwell_ms=rng.integers(1_000, 90_000, len(page)),
        ts=ts[page] + 60_000,
        user_key=[users[i] for i in page],
    )
    return shown, did_table


def _table(schema: pa.Schema, rows: int, **columns: object) -> pa.Table:
    columns |= {"ingested_at": np.full(rows, START_MS), "batch": np.zeros(rows, dtype=np.int64)}
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def fill(store: Store, impressions: int, rng: np.random.Generator) -> None:
    """Write the made-up feedback straight into the tables, 100,000 pages at a time."""
    pages = max(1, impressions // PAGE)
    for first in range(0, pages, 100_000):
        tables = feedback(min(100_000, pages - first), first, rng, queries=max(100, impressions // 200))
        with store.database.write() as con:
            for name, table in zip(("queries", "feedback"), tables, strict=True):
                con.register("made_up", table)
                con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM made_up")
                con.unregister("made_up")
        print(f"{min(pages, first + 100_000)} of {pages} pages", file=sys.stderr)


def learn(store: Store) -> dict[str, object]:
    """The measured path."""
    started = time.perf_counter()
    until_ms = START_MS + 61 * DAY_MS
    seen = Seen(*store.evidence.collect_with_pages(until_ms, Signals()))
    collected = seen.collected
    collected_at = time.perf_counter()
    # stands for the champion's cosine, which the cycle computes for all pairs in one matrix product
    score = np.random.default_rng(1).normal(0.5, 0.1, collected.evidence.pairs)
    options = clicks.Options(session_context=Signals().session_context)
    model = clicks.fit(collected.evidence, clicks.ScoreFeatures.of(collected.evidence, score), options)
    fitted_at = time.perf_counter()
    found = read(seen, model, score, _near, JudgedEvidence(Evidence.nothing(), []), rules_of(Signals()), seed=0)
    made = found.pairs
    read_at = time.perf_counter()
    store.pairs.write("run-0001", made, excluded=collected.excluded, model=model)
    ended = time.perf_counter()
    return {
        "seconds": round(ended - started, 2),
        "collect_seconds": round(collected_at - started, 2),
        "fit_seconds": round(fitted_at - collected_at, 2),
        "read_seconds": round(read_at - fitted_at, 2),
        "write_seconds": round(ended - read_at, 2),
        "reading": found.reading,
        "chains": len(seen.chains),
        "rows": len(collected.evidence.pair),
        "shown_pairs": collected.evidence.pairs,
        "iterations": model.iterations,
        "pairs": len(made),
        "positives": made.count("positive"),
        "excluded_users": len(collected.excluded),
    }


def _near(chains: Chains) -> npt.NDArray[np.float64]:
    """Stands for the champion's scores of what sessions clicked for their other queries."""
    return np.full(len(chains), 0.5)


def fill_file(path: Path, impressions: int) -> None:
    """In a process of its own, so that its memory is not counted."""
    with Store.open(path, memory_gb=2.5) as store:
        fill(store, impressions, np.random.default_rng(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, default=2.5, help="DuckDB's share of the memory")
    parser.add_argument("--home", type=Path, default=None, help="keep or reuse the database of this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.home or Path(temporary)) / "flywheel.duckdb"
        if not path.exists():
            filling = multiprocessing.get_context("spawn").Process(target=fill_file, args=(path, options.impressions))
            filling.start()
            filling.join()
        with Store.open(path, memory_gb=options.memory_gb, threads=options.threads) as store:
            answer = learn(store)
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer |= {"peak_gb": round(used.ru_maxrss / 1024**2, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 2)}
    print_result(answer | {"impressions": options.impressions}, seeds=[0])


if __name__ == "__main__":
    main()
