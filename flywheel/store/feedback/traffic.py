"""Counts what the pages of a time span brought: click-through with its sums, and how often each query was asked."""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.store.schema.database import Database

# Feedback may be dated up to a day before its page, because clocks differ.
_RATES = """
    WITH pages AS (
        SELECT query_id, any_value(sponsored) AS sponsored FROM teaching_pages
        WHERE ts >= epoch_ms($from_ms::BIGINT) AND ts < epoch_ms($until_ms::BIGINT)
        GROUP BY query_id
    ), documents AS (
        SELECT query_id, bool_or(kind = 'click') AS clicked,
            worth_ms(kind, dwell_ms) >= $satisfied_ms::BIGINT AS satisfied
        FROM feedback JOIN pages USING (query_id)
        WHERE ts >= epoch_ms($from_ms::BIGINT) - INTERVAL 1 DAY AND teaches(sponsored, doc_id)
        GROUP BY query_id, doc_id
    ), outcomes AS (
        SELECT query_id, bool_or(clicked) AS clicked, bool_or(satisfied) AS satisfied FROM documents GROUP BY query_id
    )
    SELECT (SELECT count(*) FROM pages), count(*) FILTER (clicked), count(*) FILTER (satisfied) FROM outcomes
"""


# From the columns alone, which are nearly empty where nobody marks pages: milliseconds a million pages.
_MARKED = """
    SELECT count(*) FILTER (sorted_by IS NOT NULL), count(*) FILTER (filtered), count(*) FILTER (layout = 'grid'),
        count(*) FILTER (len(sponsored) > 0), coalesce(sum(len(sponsored)), 0)::BIGINT
    FROM queries WHERE sorted_by IS NOT NULL OR filtered OR layout IS NOT NULL OR sponsored IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Marked:
    """Pages that their senders marked, and documents in paid places. Sorted pages and paid places teach nothing."""

    sorted: int
    filtered: int
    grid: int
    sponsored: int
    sponsored_places: int


@dataclass(frozen=True, slots=True)
class PageRates:
    """Pages shown in a time span, those with a click, and those with a satisfied click; sorted pages do not count."""

    pages: int
    clicked: int
    satisfied: int

    @property
    def ctr(self) -> float | None:
        """Share of pages with a click; None if no page was shown."""
        return self.clicked / self.pages if self.pages else None

    @property
    def satisfied_ctr(self) -> float | None:
        """Share of pages with a satisfied click; None if no page was shown."""
        return self.satisfied / self.pages if self.pages else None


class Traffic:
    """Reads of `queries` and `feedback` for status, triggers and drift."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rates(self, from_ms: int, until_ms: int, *, satisfied_ms: int) -> PageRates:
        """Rates of the pages shown in [from_ms, until_ms). Their feedback counts whenever it came.

        A page is satisfied by a document that is worth at least `satisfied_ms`, as in the view `satisfied`.
        """
        with self._database.read() as con:
            parameters = {"from_ms": from_ms, "until_ms": until_ms, "satisfied_ms": satisfied_ms}
            return PageRates(*con.execute(_RATES, parameters).fetchall()[0])

    def marked(self) -> Marked:
        """All marked pages so far."""
        with self._database.read() as con:
            return Marked(*con.execute(_MARKED).fetchall()[0])

    def pages_since(self, from_ms: int) -> int:
        """Pages shown at or after an event time, usually the watermark: they are in no window yet."""
        with self._database.read() as con:
            return int(
                con.execute("SELECT count(*) FROM queries WHERE ts >= epoch_ms(?::BIGINT)", [from_ms]).fetchall()[0][0]
            )

    def query_counts(self, from_ms: int, until_ms: int, limit: int = 10_000) -> dict[str, int]:
        """Normalised query -> pages shown for it in [from_ms, until_ms), the most frequent first."""
        with self._database.read() as con:
            counts = con.execute(
                "SELECT query_key, count(*) AS pages FROM teaching_pages WHERE ts >= epoch_ms(?::BIGINT) "
                "AND ts < epoch_ms(?::BIGINT) GROUP BY query_key ORDER BY pages DESC, query_key LIMIT ?",
                [from_ms, until_ms, limit],
            ).fetchall()
        return dict(counts)

    def span(self) -> tuple[int, int] | None:
        """Event times of the first and the last page, or None."""
        with self._database.read() as con:
            first, last = con.execute("SELECT epoch_ms(min(ts)), epoch_ms(max(ts)) FROM queries").fetchall()[0]
        return None if first is None else (first, last)
