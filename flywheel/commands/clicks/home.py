"""Reads what the home knows of its own clicks: pages, what the latest run concluded from them, and a judged set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from flywheel.clicks.pages import Bools, ClickLog, Floats, ShownPage
from flywheel.clicks.preferences import Preferences

if TYPE_CHECKING:
    from flywheel.operations import Operations


@dataclass(frozen=True, slots=True)
class Kept:
    """The newest pages of the home out of `pages` in all, and the latest run's word on their pairs.

    `posterior`, (pairs,), is NaN where no run told; `positive` are pairs that the run trained on as positives. `fair`,
    (pages,), are pages with two neighbours in a random order; `preferences` is what people preferred of such two.
    """

    log: ClickLog
    pages: int
    posterior: Floats
    positive: Bools
    fair: Bools
    preferences: Preferences


def read(operations: Operations, limit: int) -> Kept:
    """At most `limit` pages, and as many pairs.

    Raises:
        click.ClickException: there are no pages, or nobody clicked on any.
    """
    from flywheel.store.published.questions import pages_seen, pairs_learned, preferences

    rows = operations.sql(pages_seen(limit)).to_pylist()
    log = ClickLog.of(
        [
            ShownPage(
                row["query_key"],
                row["person"],
                row["ts_ms"],
                row["documents"],
                frozenset(row["clicked"]),
                row["ranks"],
                row["grid"],
            )
            for row in reversed(rows)
        ]
    )
    if not log.clicked.any():
        raise click.ClickException(
            f"too little feedback: {len(rows)} pages and not one click on what they show; "
            "`flywheel import feedback FILE` brings a history, `flywheel run` collects what comes"
        )
    posterior, positive = np.full(log.pairs, np.nan), np.zeros(log.pairs, np.bool_)
    number = pair_numbers(log)
    for row in operations.sql(pairs_learned(limit)).to_pylist():
        pair = number.get((row["query_key"], row["doc_id"]))
        if pair is not None:
            posterior[pair], positive[pair] = row["posterior"], row["label"] == "positive"
    fair = np.array([row["fair"] for row in reversed(rows)], np.bool_)
    preferred = operations.sql(preferences(limit)).to_pylist()
    return Kept(log, int(rows[0]["pages"]), posterior, positive, fair, _preferences(log, number, preferred))


def _preferences(log: ClickLog, number: Mapping[tuple[str, str], int], rows: list[dict[str, Any]]) -> Preferences:
    """Those whose two documents are in the log."""
    known = [
        (number[row["query_key"], row["lower"]], number[row["query_key"], row["upper"]], row["preferred"], row["pages"])
        for row in rows
        if {(row["query_key"], row["lower"]), (row["query_key"], row["upper"])} <= number.keys()
    ]
    columns = np.array(known, np.float64).reshape(-1, 4).T
    lower, upper = columns[:2].astype(np.int64)
    return Preferences(log.pair_query[lower], lower, upper, columns[2], columns[3])


def pair_numbers(log: ClickLog) -> Mapping[tuple[str, str], int]:
    """Numbers of (query, document)."""
    named = zip(log.pair_query.tolist(), log.pair_document.tolist(), strict=True)
    return {(log.queries[query], log.documents[doc]): pair for pair, (query, doc) in enumerate(named)}


def grades(log: ClickLog, folder: Path, relevant_from: float) -> tuple[Floats, bool]:
    """(pairs,): what the folder's judged queries say, all splits together; NaN where nobody judged.

    A query belongs to the pages with the same normalised text. Where several say the same, the higher grade counts. A
    set that lists relevant documents alone means that the others are not: then what it does not list has grade 0, and
    True is returned beside the grades.

    Raises:
        click.ClickException: not one of its judgements is about a document that a page showed.
    """
    from flywheel.events import normalise_query
    from flywheel.files.beir import read_split, splits

    number, found = pair_numbers(log), np.full(log.pairs, np.nan)
    asked, told = np.zeros(len(log.queries), np.bool_), set[float]()
    row = {name: place for place, name in enumerate(log.queries)}
    judged = [read_split(folder, split) for split in splits(folder) or [""]]
    for part in judged:
        for text, documents in zip(part.texts, part.judgements, strict=True):
            key = normalise_query(text)
            told.update(documents.values())
            if key in row:
                asked[row[key]] = True
            for doc_id, grade in documents.items():
                pair = number.get((key, doc_id))
                if pair is not None:
                    found[pair] = np.fmax(found[pair], grade)
    if np.isnan(found).all():
        raise click.ClickException(
            f"nothing to compare: no page of this home showed a document that {folder} judges for its query"
        )
    listed_alone = min(told) >= relevant_from
    if listed_alone:
        found[np.isnan(found) & asked[log.pair_query]] = 0.0
    return found, listed_alone
