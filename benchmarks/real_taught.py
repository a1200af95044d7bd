"""A log of pages through the product's own store, click model and reading: which pairs would it learn from?"""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clicks import rows_of
from flywheel.clicks.evidence import Evidence, ScoreFeatures
from flywheel.clicks.model import Options, fit
from flywheel.clicks.pages import ClickLog, Floats
from flywheel.learning.reading import JudgedEvidence, Seen, read
from flywheel.learning.snapshot import rules_of
from flywheel.settings.load import Signals
from flywheel.store.feedback.rows import FEEDBACK, QUERIES
from flywheel.store.store import Store

Named = tuple[str, str]


@dataclass(frozen=True)
class Taught:
    """What the product would learn from, how it read the clicks, the p-value of agreement; `carried`: see `Read`."""

    positives: set[Named]
    reading: str
    p: float
    carried: float | None


def named_pairs(log: ClickLog) -> list[Named]:
    """(query, document) of each pair."""
    return [(log.queries[q], log.documents[d]) for q, d in zip(log.pair_query, log.pair_document, strict=True)]


def clicked_pairs(log: ClickLog) -> set[Named]:
    """Those that somebody clicked."""
    names = named_pairs(log)
    return {names[pair] for pair in np.unique(log.pair[log.clicked])}


def taught(log: ClickLog, seed: int, score: Floats | None = None) -> Taught:
    """Write the pages into a store of their own and read them; `score`, (pairs,), is the champion's, or None."""
    with tempfile.TemporaryDirectory() as room, Store.open(Path(room) / "l.duckdb", memory_gb=1.0) as store:
        _write(store, log)
        signals = Signals()
        seen = Seen(*store.evidence.collect_with_pages(int(log.ts_ms.max()) + 60_000, signals))
    evidence = seen.collected.evidence
    told = {} if score is None else dict(zip(named_pairs(log), score, strict=True))
    names = zip(evidence.pair_query, evidence.pair_document, strict=True)
    cosines = np.array([told.get((evidence.queries[q], evidence.documents[d]), 0.0) for q, d in names])
    model = fit(evidence, ScoreFeatures.of(evidence, cosines), Options(session_context=signals.session_context))
    nobody = JudgedEvidence(Evidence.nothing(), [])
    found = read(seen, model, cosines, lambda chains: np.zeros(len(chains)), nobody, rules_of(signals), seed)
    labelled = zip(found.pairs.query_key, found.pairs.doc_id, found.pairs.label, strict=True)
    positives = {(key, doc) for key, doc, label in labelled if label == "positive"}
    return Taught(positives, found.reading, found.meaning.agreement.p, found.carried)


def _write(store: Store, log: ClickLog) -> None:
    pages = [f"p{number}" for number in range(len(log.query))]
    people = [f"u{person}" for person in log.person]
    names = np.array([*log.documents, ""], object)[np.append(log.pair_document, len(log.documents))]
    shown = [names[row[row >= 0]].tolist() for row in log.pair]
    queries = [log.queries[query] for query in log.query]
    page, place = np.nonzero(log.clicked)
    tables = {
        "queries": rows_of(
            QUERIES, query_id=pages, query_key=queries, text=queries, ts=log.ts_ms, user_key=people, hit_ids=shown
        ),
        "feedback": rows_of(
            FEEDBACK,
            event_id=[f"e{number}" for number in range(len(page))], query_id=[pages[row] for row in page],
            kind=["click"] * len(page), doc_id=names[log.pair[page, place]], rank=place + 1,
            ts=log.ts_ms[page] + 1_000, user_key=[people[row] for row in page],
        ),
    }  # fmt: skip
    with store.database.write() as con:
        for name, table in tables.items():
            con.register("made_up", table)
            con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM made_up")
            con.unregister("made_up")


def base_scores(folder: Path, log: ClickLog) -> Floats | None:
    """(pairs,): cosines by the base model where the log has texts, NaN for a document without; None without texts."""
    path = folder / "documents.jsonl.gz"
    if not path.exists():
        return None
    from flywheel.retrieval.encoder import Encoder

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    texts = {row["doc_id"]: f"{row.get('title') or ''} {row.get('text') or ''}".strip() for row in records}
    encoder = Encoder.load("auto", max_seq_length=256)
    known = [name for name in log.documents if texts.get(name)]
    vectors = np.zeros((len(log.documents), encoder.dimension), np.float32)
    place = {name: row for row, name in enumerate(log.documents)}
    vectors[[place[name] for name in known]] = encoder.encode_documents([texts[name] for name in known])
    asked = encoder.encode_queries([name.rpartition("\t")[0] for name in log.queries])
    found: Floats = np.einsum("ij,ij->i", asked[log.pair_query], vectors[log.pair_document]).astype(np.float64)
    return found
