from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flywheel.clicks.dwell import Threshold
from flywheel.clicks.evidence import Collected, Evidence, ExcludedUser, PairFacts
from flywheel.clicks.model import ClickModel, Curve
from flywheel.clicks.pairs import COUNTS, Label, Pairs
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

MONTH_MS = 31 * 86_400_000
T0 = 1_760_000_000_000


def pairs(rows: list[tuple[str, str, Label, int]]) -> Pairs:
    """Pairs of (query, document, label, time)."""
    n = len(rows)
    queries, documents, labels, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    seen = np.arange(n, dtype=np.int64)
    when = np.array(times, dtype=np.int64)
    facts = PairFacts(**dict.fromkeys(COUNTS, seen), first_ms=when, last_ms=when, model_versions=(("v0", "v1"),) * n)
    ones = np.ones(n)
    return Pairs(
        queries, queries, documents, labels, weight=ones, posterior=ones * 0.75, prior=ones * 0.25, pull=ones * 0.5,
        impressions=ones * 4, clicks=ones * 2, source=("clicks",) * n, facts=facts,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1) as opened:
        yield opened


def test_what_is_written_comes_back_with_its_provenance(store: Store) -> None:
    """One call says why a pair was a positive: label, prior, pull, posterior, counts, window and versions, by run."""
    store.pairs.write("run-1", pairs([("shoes", "a", "ambiguous", T0), ("shoes", "b", "positive", T0)]))
    (reason,) = store.pairs.why("shoes", "b")
    assert (reason["run_id"], reason["label"], reason["posterior"], reason["impressions"]) == (
        "run-1",
        "positive",
        0.75,
        4.0,
    )
    assert (reason["prior"], reason["pull"]) == (0.25, 0.5)
    assert (reason["users"], reason["model_versions"]) == (1, ["v0", "v1"])
    assert reason["first_ts"] == reason["last_ts"]
    assert store.pairs.why("shoes", "z") == []


def test_writing_a_run_twice_leaves_it_once(store: Store) -> None:
    """A run that is repeated after a crash replaces its rows."""
    for _ in range(2):
        store.pairs.write(
            "run-1", pairs([("shoes", "a", "positive", T0)]), excluded=(ExcludedUser("u", "bot", 9, 9, 0),)
        )
    assert store.pairs.of("run-1").num_rows == 1
    with store.database.read() as con:
        assert con.execute("SELECT user_key, reason FROM excluded_users").fetchall() == [("u", "bot")]


def test_new_pairs_are_positives_that_the_earlier_run_had_not(store: Store) -> None:
    """A pair that turned from ambiguous to positive is new; one that was positive before is not."""
    before = pairs([("q", "a", "positive", T0), ("q", "b", "ambiguous", T0)])
    after = pairs([("q", "a", "positive", T0), ("q", "b", "positive", T0), ("q", "c", "negative", T0)])
    store.pairs.write("run-1", before)
    store.pairs.write("run-2", after)
    assert store.pairs.new_since("run-2", "run-1")["doc_id"].to_pylist() == ["b"]
    assert store.pairs.new_since("run-2", None)["doc_id"].to_pylist() == ["a", "b"]
    assert store.pairs.masked("run-2")["label"].to_pylist() == ["negative"]
    assert store.pairs.trained_documents() == {"a", "b"}


def test_replay_is_bounded_seeded_and_even_over_queries_and_months(store: Store) -> None:
    """One frequent query does not fill the reservoir, nor does one month; the same seed draws the same pairs."""
    rows: list[tuple[str, str, Label, int]] = [("big", f"d{i}", "positive", T0) for i in range(200)]
    rows += [(f"old {i}", "d", "positive", T0 - 3 * MONTH_MS) for i in range(10)]
    rows += [(f"new {i}", "d", "positive", T0) for i in range(90)]
    store.pairs.write("run-1", pairs(rows))
    drawn = store.pairs.replay("run-1", "run-1", size=20, seed=1)
    assert drawn.num_rows == 20
    queries = Counter(query.split()[0] for query in drawn["query_key"].to_pylist())
    assert queries["big"] <= 1
    assert queries["old"] >= 9
    assert drawn.equals(store.pairs.replay("run-1", "run-1", size=20, seed=1))
    assert not drawn.equals(store.pairs.replay("run-1", "run-1", size=20, seed=2))
    assert set(drawn.column_names) == set(store.pairs.of("run-1").column_names)


def test_replay_leaves_out_what_is_new_and_what_was_refuted(store: Store) -> None:
    """Only positives of the latest evidence that an earlier run had already are replayed."""
    store.pairs.write("run-1", pairs([("q", "kept", "positive", T0), ("q", "refuted", "positive", T0)]))
    store.pairs.write("run-2", pairs([("q", "kept", "positive", T0), ("q", "fresh", "positive", T0)]))
    assert store.pairs.replay("run-2", "run-1", size=9, seed=0)["doc_id"].to_pylist() == ["kept"]
    assert store.pairs.replay("run-2", None, size=9, seed=0).num_rows == 0


def test_curves_are_kept_with_their_warnings(store: Store) -> None:
    """Each rank's rates lie in click_curves, with the note that a rank had too little evidence."""
    seen = np.array([[100.0, 0, 0], [5, 3, 0]])
    curve = Curve(np.full((2, 3), 0.9), np.full((2, 3), 0.1), seen, np.ones(3) / 3, np.ones(3) / 3)
    one = np.ones(1)
    model = ClickModel(curve, one, one, one, 9, True, 9.0, True, ("rank 2: 8 weighted impressions, fewer than 100",))
    store.pairs.write("run-1", pairs([]), model=model)
    with store.database.read() as con:
        found = con.execute("SELECT rank, context, relevant_rate, note FROM click_curves ORDER BY ALL").fetchall()
    assert [row[:3] for row in found] == [(1, 0, 0.9), (2, 0, 0.9), (2, 1, 0.9)]
    assert [bool(row[3]) for row in found] == [False, True, True]
    last = store.pairs.curve("run-1")
    assert last is not None
    assert last.relevant.tolist() == curve.relevant.tolist()
    assert last.impressions.tolist() == seen.tolist()
    assert store.pairs.curve("run-0") is None


def test_what_the_click_model_thought_is_kept(store: Store) -> None:
    """The scheme with its chances, the warnings and the dwell thresholds of a run each have their row."""
    curve = Curve(*(np.full((1, 3), rate) for rate in (0.9, 0.1, 9.0)), np.ones(3) / 3, np.ones(3) / 3)
    nothing, zeros = np.zeros(0, np.int32), np.zeros(0)
    evidence = Evidence(
        (), (), nothing, nothing, zeros, zeros, zeros, nothing, nothing, nothing, zeros, zeros,
        np.zeros(2, np.int64), nothing,
    )  # fmt: skip
    facts = PairFacts(**dict.fromkeys((*COUNTS, "first_ms", "last_ms"), np.zeros(0, np.int64)), model_versions=())
    collected = Collected(evidence, facts, (), 0, dwell=(Threshold("long document", 900, 8_000, 1_200, "segment"),))
    model = ClickModel(curve, zeros, zeros, zeros, 9, False, 9.0, True, ("slow",), "cascade", (0.8, 0.2, 0.9))
    store.pairs.write("run-1", pairs([]), model=model, collected=collected)
    store.pairs.write("run-1", pairs([]), model=model, collected=collected)
    with store.database.read() as con:
        (kept,) = con.execute(
            "SELECT scheme, after_irrelevant, after_relevant, after_skip, converged, moved, warnings FROM click_models"
        ).fetchall()
        dwell = con.execute("SELECT * EXCLUDE (run_id) FROM dwell_thresholds").fetchall()
    assert kept == ("cascade", 0.8, 0.2, 0.9, False, 0, ["slow"])
    assert dwell == [("long document", 900, 8_000, 1_200, "segment")]


def test_pruning_drops_old_ambiguous_pairs_only(store: Store) -> None:
    """Labels of every run stay, for they say which documents training touched."""
    for number in range(1, 13):
        run_id = f"run-{number:02d}"
        store.runs.start(TrainingRun(run_id, "manual", "query_tower", "started", T0 + number, until_ms=T0), "me")
        store.pairs.write(run_id, pairs([("q", "a", "positive", T0), ("q", "b", "ambiguous", T0)]))
        store.runs.finish(run_id, "done", T0 + number)
    kept = [store.pairs.of(f"run-{number:02d}")["label"].to_pylist() for number in (1, 2, 3, 12)]
    assert kept == [["positive"], ["positive"], ["positive", "ambiguous"], ["positive", "ambiguous"]]
    assert store.pairs.prune(keep=1) == 9
    assert store.pairs.of("run-11")["label"].to_pylist() == ["positive"]
