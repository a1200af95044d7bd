"""Stores each run's training pairs, who was left out, and the click model and thresholds that labelled them.

A run writes once. All questions read what it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.clicks.dwell import Threshold
from flywheel.clicks.evidence import Collected, ExcludedUser
from flywheel.clicks.examination import MAX_RANK, place_name
from flywheel.clicks.model import CONTEXTS, ClickModel, Curve
from flywheel.clicks.moved_ranks import Harvest, doubts, harvest
from flywheel.clicks.pairs import COUNTS, Pairs
from flywheel.store.schema.database import Database

_TIME = pa.timestamp("ms")
_RUNS_KEPT = 10  # else the ambiguous pairs of every run would stay for ever
_WRITTEN = ("pairs", "excluded_users", "click_curves", "click_models", "dwell_thresholds")

# Positives of one run that an earlier run did not have as positives.
_NEW = """
SELECT p.* FROM pairs p ANTI JOIN (
    SELECT query_key, doc_id FROM pairs WHERE run_id = $since AND label = 'positive'
) old USING (query_key, doc_id)
WHERE p.run_id = $run AND p.label = 'positive'
"""

# The replay reservoir, even over queries and time. Each query's first pair comes before any query's second. Within
# that, each month's first comes before any month's second. Among equals the smaller hash comes first, so that the same
# seed draws the same pairs and no state is kept.
_REPLAY = """
WITH old AS (
    SELECT *, md5($seed || '|' || query_key || '|' || doc_id) AS lot FROM pairs
    WHERE run_id = $run AND label = 'positive' AND (query_key, doc_id) NOT IN (SELECT (query_key, doc_id) FROM fresh)
), drawn AS (
    SELECT *, row_number() OVER (PARTITION BY query_key ORDER BY lot) AS within_query FROM old
), even AS (
    SELECT *, row_number() OVER (PARTITION BY within_query, date_trunc('month', last_ts) ORDER BY lot) AS within_month
    FROM drawn
)
SELECT * EXCLUDE (lot, within_query, within_month) FROM even ORDER BY within_query, within_month, lot LIMIT $size
"""

# Without grids: their few ranks are fitted anew each time.
_CURVE = "SELECT * FROM click_curves WHERE run_id = $run AND layout = 'list' ORDER BY rank, context"

_WHY = """
SELECT p.run_id, r.started_at, p.label, p.posterior, p.prior, p.pull, p.weight, p.source, p.impressions, p.clicks,
       p.satisfied, p.bounced, p.thumbs_up, p.thumbs_down, p.carts, p.purchases, p.users, p.first_ts, p.last_ts,
       p.model_versions, r.trigger, r.version AS trained
FROM pairs p LEFT JOIN training_runs r USING (run_id)
WHERE (p.query_key = $query OR p.query = $query) AND p.doc_id = $document
ORDER BY r.started_at DESC NULLS LAST, p.run_id DESC
"""


# The latest run with a click model: whether how clicks end goes with relevance, and the limit that most dwells have.
_DWELL = """
WITH run AS (SELECT m.* FROM click_models m JOIN training_runs r USING (run_id) ORDER BY r.started_at DESC LIMIT 1)
SELECT any_value(ends_relevant) <> any_value(ends_irrelevant),
       arg_max(d.satisfied_ms, d.dwells) FILTER (d.source <> 'none' AND d.segment NOT LIKE '%until the next act')
FROM run LEFT JOIN dwell_thresholds d USING (run_id) HAVING count(ends_relevant) > 0
"""


@dataclass(frozen=True, slots=True)
class DwellTold:
    """Whether how clicks end goes with relevance, and from which dwell on they satisfied; None: no dwells are sent."""

    separates: bool
    satisfied_ms: int | None


class PairTable:
    """The tables `pairs`, `excluded_users`, `click_curves`, `click_models` and `dwell_thresholds`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        run_id: str,
        pairs: Pairs,
        *,
        excluded: tuple[ExcludedUser, ...] = (),
        model: ClickModel | None = None,
        collected: Collected | None = None,
    ) -> None:
        """Write what a run learned. A second call replaces the first, so that a killed run may be repeated.

        Old runs keep only their labels, see `prune`.
        """
        tables = {"pairs": _rows(run_id, pairs), "excluded_users": _excluded(run_id, excluded)}
        if model is not None:
            tables["click_curves"] = _curves(run_id, model)
            tables["click_models"] = _model(run_id, model, collected)
        if collected is not None:
            tables["dwell_thresholds"] = _dwell(run_id, collected.dwell)
        with self._database.write() as con:
            for name in _WRITTEN:
                con.execute(f"DELETE FROM {name} WHERE run_id = ?", [run_id])  # noqa: S608 - our own five names
            for name, table in tables.items():
                con.register("written_rows", table)
                con.execute(f"INSERT INTO {name} BY NAME SELECT * FROM written_rows")  # noqa: S608 - as above
                con.unregister("written_rows")
            self.prune(_RUNS_KEPT)

    def of(self, run_id: str) -> pa.Table:
        """All pairs of a run, ordered by query and document."""
        return self._table("SELECT * FROM pairs WHERE run_id = $run ORDER BY query_key, doc_id", {"run": run_id})

    def new_since(self, run_id: str, since: str | None) -> pa.Table:
        """Positives of `run_id` that the earlier run `since` (None: no run) did not have, by query and document."""
        return self._table(f"{_NEW} ORDER BY p.query_key, p.doc_id", {"run": run_id, "since": since or ""})

    def replay(self, run_id: str, since: str | None, *, size: int, seed: int) -> pa.Table:
        """The replay reservoir: at most `size` positives of `run_id` that are not new since `since`, spread evenly over
        queries and months. `trainer.data.replay` mixes them with the new ones.

        They come from the latest evidence: a pair that later feedback refuted is not replayed.
        """
        values = {"run": run_id, "since": since or "", "size": size, "seed": str(seed)}
        return self._table(f"WITH fresh AS ({_NEW}) {_REPLAY.replace('WITH old', ', old', 1)}", values)

    def masked(self, run_id: str) -> pa.Table:
        """The pairs of a run that are not positive: ambiguous ones to mask, and negatives."""
        statement = "SELECT * FROM pairs WHERE run_id = $run AND label <> 'positive' ORDER BY query_key, doc_id"
        return self._table(statement, {"run": run_id})

    def trained_documents(self) -> frozenset[str]:
        """Documents that any run's positives touched: what "seen" means when a model is judged."""
        positives = self._table("SELECT DISTINCT doc_id FROM pairs WHERE label = 'positive'", {})
        return frozenset(positives["doc_id"].to_pylist())

    def curve(self, run_id: str) -> Curve | None:
        """The click curve of a run, whose rates are lent to ranks with too little evidence. None if it has none."""
        cells = self._table(_CURVE, {"run": run_id})
        if not len(cells):
            return None
        rank = np.asarray(cells["rank"].to_pylist()) - 1
        context = np.asarray(cells["context"].to_pylist())
        relevant, irrelevant, impressions = (np.full((rank.max() + 1, CONTEXTS), np.nan) for _ in range(3))
        for name, grid in (("relevant_rate", relevant), ("irrelevant_rate", irrelevant), ("impressions", impressions)):
            grid[rank, context] = cells[name].to_pylist()
        # a cell without impressions takes the rank's first context that has some
        for rates in (relevant, irrelevant):
            measured = np.isfinite(rates)
            rates[:] = np.where(measured, rates, rates[np.arange(len(rates)), measured.argmax(axis=1)][:, None])
        seen = np.isfinite(relevant).all(axis=1)
        if not seen.all():  # a rank that nobody saw ends the curve: nothing is lent beyond it
            end = int(seen.argmin())
            relevant, irrelevant, impressions = relevant[:end], irrelevant[:end], impressions[:end]
        thirds = np.full(3, 1 / 3)  # how clicks end is not stored, and is not lent
        return Curve(relevant, irrelevant, np.nan_to_num(impressions), thirds, thirds) if len(relevant) else None

    def why(self, query: str, doc_id: str) -> list[dict[str, Any]]:
        """What each run made of a pair and on which counts, the latest first. `query` is as typed or normalised."""
        answers: list[dict[str, Any]] = self._table(_WHY, {"query": query, "document": doc_id}).to_pylist()
        return answers

    def dwell_told(self) -> DwellTold | None:
        """What the latest run found about dwell; None where no run kept it."""
        with self._database.read() as con:
            rows = con.execute(_DWELL).fetchall()
        return DwellTold(*rows[0]) if rows else None

    def prune(self, keep: int) -> int:
        """Drop the ambiguous pairs of all but the latest `keep` runs. Returns how many. Labels stay."""
        with self._database.write() as con:
            row = con.execute(
                "DELETE FROM pairs WHERE label = 'ambiguous' AND run_id IN "
                "(SELECT run_id FROM training_runs ORDER BY started_at DESC, run_id DESC OFFSET ?)",
                [keep],
            ).fetchone()
        return int(row[0]) if row else 0

    def _table(self, statement: str, values: dict[str, Any]) -> pa.Table:
        with self._database.read() as con:
            return con.sql(statement, params=values).to_arrow_table()


def _rows(run_id: str, pairs: Pairs) -> pa.Table:
    facts = pairs.facts
    weighted = {"impressions", "clicks"}
    return pa.table(
        {
            "run_id": pa.array([run_id] * len(pairs), pa.string()),
            "query_key": pa.array(pairs.query_key, pa.string()),
            "query": pa.array(pairs.query, pa.string()),
            "doc_id": pa.array(pairs.doc_id, pa.string()),
            "label": pa.array(pairs.label, pa.string()),
            "weight": pa.array(pairs.weight, pa.float32()),
            "posterior": pa.array(pairs.posterior, pa.float32()),
            "prior": pa.array(pairs.prior, pa.float32()),
            "pull": pa.array(pairs.pull, pa.float32()),
            "impressions": pa.array(pairs.impressions),
            "clicks": pa.array(pairs.clicks),
            **{name: pa.array(getattr(facts, name)) for name in COUNTS if name not in weighted},
            "first_ts": pa.array(facts.first_ms).cast(_TIME),
            "last_ts": pa.array(facts.last_ms).cast(_TIME),
            "model_versions": pa.array([list(v) for v in facts.model_versions], pa.list_(pa.string())),
            "source": pa.array(pairs.source, pa.string()),
        }
    )


def _excluded(run_id: str, excluded: tuple[ExcludedUser, ...]) -> pa.Table:
    names = ("user_key", "reason", "impressions", "clicks", "dwells")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int64())
    columns = {
        name: pa.array([getattr(user, name) for user in excluded], kind)
        for name, kind in zip(names, kinds, strict=True)
    }
    return pa.table({"run_id": pa.array([run_id] * len(excluded), pa.string()), **columns})


def _model(run_id: str, model: ClickModel, collected: Collected | None) -> pa.Table:
    onward = model.onward or (None, None, None)
    harvested = None if collected is None else harvest(collected.evidence)
    row = {
        "run_id": run_id,
        "scheme": model.scheme,
        "after_irrelevant": onward[0],
        "after_relevant": onward[1],
        "after_skip": onward[2],
        "iterations": model.iterations,
        "converged": model.converged,
        "gain": model.gain,
        "separable": model.two_kinds,
        "moved": None if collected is None else collected.evidence.moved(),
        "moved_examination": None if harvested is None else harvested.examination.tolist(),
        "moved_error": None if harvested is None else harvested.standard_error.tolist(),
        "ends_relevant": model.curve.ends_relevant.tolist(),
        "ends_irrelevant": model.curve.ends_irrelevant.tolist(),
        "warnings": [*model.warnings, *_doubts(model, harvested)],
    }
    kinds = {name: pa.float64() for name in ("after_irrelevant", "after_relevant", "after_skip")}
    kinds |= {
        name: pa.list_(pa.float64())
        for name in ("moved_examination", "moved_error", "ends_relevant", "ends_irrelevant")
    }
    kinds |= {"moved": pa.int64(), "warnings": pa.list_(pa.string())}
    return pa.table({name: pa.array([value], kinds.get(name)) for name, value in row.items()})


def _doubts(model: ClickModel, harvested: Harvest | None) -> list[str]:
    """Warnings where examination is not that of documents that moved; contexts count as often as they occurred."""
    if harvested is None:
        return []
    curve = model.curve
    shown = curve.impressions[:MAX_RANK].sum(axis=1)
    rate = (curve.relevant[:MAX_RANK] * curve.impressions[:MAX_RANK]).sum(axis=1) / np.maximum(shown, 1e-9)
    return [str(doubt) for doubt in doubts(rate / rate[0], harvested)] if rate[0] > 0 else []


def _dwell(run_id: str, found: tuple[Threshold, ...]) -> pa.Table:
    numbers, words = ("bounce_ms", "satisfied_ms", "dwells"), ("segment", "source")
    columns = {name: pa.array([getattr(limit, name) for limit in found], pa.int64()) for name in numbers}
    columns |= {name: pa.array([getattr(limit, name) for limit in found], pa.string()) for name in words}
    return pa.table({"run_id": pa.array([run_id] * len(found), pa.string()), **columns})


def _curves(run_id: str, model: ClickModel) -> pa.Table:
    """A row for each rank and context that was seen. A warning that names a rank becomes that rank's note.

    Rows of the curve beyond `MAX_RANK` are those of grids.
    """
    curve = model.curve
    cells = [
        (rank, context)
        for rank in range(len(curve.relevant))
        for context in range(curve.relevant.shape[1])
        if curve.impressions[rank, context] > 0
    ]
    notes = {warning.partition(":")[0]: warning for warning in model.warnings}
    return pa.table(
        {
            "run_id": pa.array([run_id] * len(cells), pa.string()),
            "rank": pa.array([rank % MAX_RANK + 1 for rank, _ in cells], pa.int16()),
            "layout": pa.array(["list" if rank < MAX_RANK else "grid" for rank, _ in cells], pa.string()),
            "context": pa.array([context for _, context in cells], pa.int16()),
            "relevant_rate": pa.array([float(curve.relevant[cell]) for cell in cells], pa.float64()),
            "irrelevant_rate": pa.array([float(curve.irrelevant[cell]) for cell in cells], pa.float64()),
            "impressions": pa.array([float(curve.impressions[cell]) for cell in cells], pa.float64()),
            "note": pa.array([notes.get(place_name(rank)) for rank, _ in cells], pa.string()),
        }
    )
