"""Judges how clicks ended, satisfied or bounced, by segment: from dwells, or where none are sent from what came next.

SQL counts, `flywheel.clicks.dwell` sets the thresholds, and SQL applies them.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.clicks.dwell import BINS, PER_DOUBLING, Threshold, thresholds
from flywheel.settings.load import Signals

# What people were next seen to do after a click: another click, or another page (a reformulation, a return to the
# search). That ends the dwell, as far as pages and clicks tell (time to the next act: Kim et al., WSDM 2014, section
# 3). Who does nothing for half an hour counts with that. Who cannot be followed has no acts but the page's.
_NEXT = """
CREATE TEMP TABLE ev_next AS
WITH acts AS (
    SELECT page, doc_id, clicked_at, coalesce(person, 'page ' || page) AS who FROM ev_acts
    WHERE clicked AND clicked_at IS NOT NULL
), moments AS (
    SELECT who, clicked_at AS at FROM acts UNION SELECT coalesce(person, 'page ' || page), ts FROM ev_pages
)
SELECT a.page, a.doc_id, least(coalesce(epoch_ms(m.at) - epoch_ms(a.clicked_at), 1800000), 1800000)::BIGINT AS dwell_ms
FROM acts a ASOF LEFT JOIN moments m ON a.who = m.who AND a.clicked_at < m.at
"""
# Where nearly no click has a dwell, those that have one are not like the others.
_SENT = "SELECT coalesce(count(dwell_ms) >= 0.2 * count(*), true) FROM ev_acts WHERE clicked AND place IS NOT NULL"

# Readers take longer over long documents, and people with a short query look something up.
_DWELLED = """
CREATE TEMP TABLE ev_dwelled AS
SELECT * FROM (
    SELECT a.page, a.doc_id, CASE WHEN $sent::BOOLEAN THEN a.dwell_ms ELSE n.dwell_ms END AS dwell_ms,
           CASE WHEN d.doc_id IS NULL THEN 'unknown' WHEN length(d.text) < 600 THEN 'short'
                WHEN length(d.text) < 2400 THEN 'medium' ELSE 'long' END
           || ' document, ' || CASE WHEN len(string_split(p.query_key, ' ')) <= 2 THEN 'short' ELSE 'long' END
           || ' query' || CASE WHEN $sent::BOOLEAN THEN '' ELSE ', until the next act' END AS segment
    FROM ev_acts a JOIN ev_pages p USING (page) LEFT JOIN ev_next n USING (page, doc_id)
    LEFT JOIN documents d ON d.doc_id = a.doc_id
    WHERE a.person IS NULL OR a.person NOT IN (SELECT user_key FROM ev_excluded)
) WHERE dwell_ms IS NOT NULL
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
    """Make `ev_ended` (page, doc_id, satisfied, bounced) from `ev_acts`. Returns the thresholds that it used.

    The limits of the settings count where `learn_dwell` is off, and where somebody set them and dwells form no heaps.
    What comes next has no limits but its own: seconds there are no seconds of reading.
    """
    sent = not signals.learn_dwell or bool(con.execute(_SENT).fetchall()[0][0])
    con.execute(_NEXT)
    con.execute(_DWELLED, {"sent": sent})
    counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for segment, bin_no, dwells in con.execute(_COUNTS).fetchall():
        counts.setdefault(segment, np.zeros(BINS, dtype=np.int64))[bin_no] = dwells
    fixed = {"bounce_ms": signals.bounce_ms, "satisfied_ms": signals.satisfied_ms}
    if signals.learn_dwell:
        insisted = bool(fixed.keys() & signals.model_fields_set)
        limits = thresholds(counts, **(fixed if sent else {}), insisted=insisted)
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
