"""Judges dwells as satisfied or bounced, by segment.

SQL counts them, `flywheel.clicks.dwell` sets the thresholds, and SQL applies them.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.clicks.dwell import BINS, PER_DOUBLING, Threshold, thresholds
from flywheel.settings.load import Signals

# Readers take longer over long documents, and people with a short query look something up.
_DWELLED = """
CREATE TEMP TABLE ev_dwelled AS
SELECT a.page, a.doc_id, a.dwell_ms,
       CASE WHEN d.doc_id IS NULL THEN 'unknown' WHEN length(d.text) < 600 THEN 'short'
            WHEN length(d.text) < 2400 THEN 'medium' ELSE 'long' END
       || ' document, ' || CASE WHEN len(string_split(p.query_key, ' ')) <= 2 THEN 'short' ELSE 'long' END || ' query'
       AS segment
FROM ev_acts a JOIN ev_pages p USING (page) LEFT JOIN documents d ON d.doc_id = a.doc_id
WHERE a.dwell_ms IS NOT NULL AND (a.person IS NULL OR a.person NOT IN (SELECT user_key FROM ev_excluded))
"""

# The last bin holds all longer dwells. A dwell of 0 ms has no logarithm and counts as 1 ms.
_COUNTS = f"""
SELECT segment, least({BINS - 1}, floor({PER_DOUBLING} * log2(greatest(dwell_ms, 1))))::INTEGER AS bin, count(*)
FROM ev_dwelled GROUP BY ALL ORDER BY ALL
"""  # noqa: S608 - two numbers of ours

_ENDED = """
CREATE TEMP TABLE ev_ended AS
SELECT w.page, w.doc_id, w.dwell_ms >= t.satisfied_ms AS satisfied, w.dwell_ms < t.bounce_ms AS bounced
FROM ev_dwelled w JOIN ev_thresholds t USING (segment)
"""


def judge_dwells(con: duckdb.DuckDBPyConnection, signals: Signals) -> tuple[Threshold, ...]:
    """Make `ev_ended` (page, doc_id, satisfied, bounced) from `ev_acts`. Returns the thresholds that it used."""
    con.execute(_DWELLED)
    counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for segment, bin_no, dwells in con.execute(_COUNTS).fetchall():
        counts.setdefault(segment, np.zeros(BINS, dtype=np.int64))[bin_no] = dwells
    fixed = {"bounce_ms": signals.bounce_ms, "satisfied_ms": signals.satisfied_ms}
    if signals.learn_dwell:
        limits = thresholds(counts, **fixed)
    else:
        limits = tuple(
            Threshold(segment, **fixed, dwells=int(histogram.sum()), source="settings")
            for segment, histogram in counts.items()
        )
    columns = {
        "segment": pa.array([limit.segment for limit in limits], pa.string()),
        "bounce_ms": pa.array([limit.bounce_ms for limit in limits], pa.int64()),
        "satisfied_ms": pa.array([limit.satisfied_ms for limit in limits], pa.int64()),
    }
    con.register("ev_thresholds", pa.table(columns))
    con.execute(_ENDED)
    return limits
