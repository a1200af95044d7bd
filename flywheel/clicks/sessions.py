"""What people clicked for their other queries of the same session: weak positives for this one.

Whoever rewrites a query looks for the same thing. It is a weak reading, and used only where clicks as such are weak.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from flywheel.clicks.evidence import Floats, PairFacts
from flywheel.clicks.pairs import COUNTS, Pairs

SHARE = 0.5
"""A click for another query of the session weighs this much of a click."""
NEAR = 0.25
"""A document has to score for the query at least as well as this share of what was clicked for its own query."""


@dataclass(frozen=True, slots=True)
class Chains:
    """Documents clicked for other queries of a session: `query` (normalised) and document, with the clicks' `weight`.

    `first_ms` and `last_ms` are times of those clicks, in epoch milliseconds.
    """

    query: tuple[str, ...] = ()
    doc_id: tuple[str, ...] = ()
    weight: Floats = field(default_factory=lambda: np.zeros(0))
    first_ms: Floats = field(default_factory=lambda: np.zeros(0))
    last_ms: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.doc_id)

    def only(self, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Chains:
        """Those rows."""
        rows = np.flatnonzero(kept)
        return Chains(
            tuple(self.query[row] for row in rows), tuple(self.doc_id[row] for row in rows),
            self.weight[rows], self.first_ms[rows], self.last_ms[rows],
        )  # fmt: skip


def near(scores: Floats, clicked: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which chains the champion finds near enough: `scores` of theirs, held against those of `clicked` pairs."""
    if not len(clicked):
        return np.zeros(len(scores), np.bool_)
    return np.asarray(scores >= np.quantile(clicked, NEAR), np.bool_)


def chained(pairs: Pairs, chains: Chains, texts: dict[str, str]) -> Pairs:
    """The pairs, with each chain as a weak positive unless its pair has a label that says something already.

    `texts` has each query as people typed it. Such a pair has the source `session`, and no counts of its own.
    """
    labelled = {(key, doc): label for key, doc, label in zip(pairs.query_key, pairs.doc_id, pairs.label, strict=True)}
    new = np.array(
        [labelled.get(pair, "ambiguous") == "ambiguous" for pair in zip(chains.query, chains.doc_id, strict=True)],
        np.bool_,
    )
    chains = chains.only(new)
    if not len(chains):
        return pairs
    taken = set(zip(chains.query, chains.doc_id, strict=True))
    kept = [row for row, pair in enumerate(zip(pairs.query_key, pairs.doc_id, strict=True)) if pair not in taken]
    none = np.zeros(len(chains))
    weight = SHARE * np.minimum(1.0, chains.weight)
    columns = {
        "weight": weight, "posterior": none, "prior": none, "pull": none, "impressions": none, "clicks": none,
    }  # fmt: skip
    joined = {name: np.concatenate([getattr(pairs, name)[kept], column]) for name, column in columns.items()}
    words = {
        "query_key": chains.query,
        "query": tuple(texts.get(key, key) for key in chains.query),
        "doc_id": chains.doc_id,
        "label": ("positive",) * len(chains),
        "source": ("session",) * len(chains),
    }
    told = {name: tuple(getattr(pairs, name)[row] for row in kept) + more for name, more in words.items()}
    found = replace(pairs, **joined, **told, facts=_facts(pairs.facts, kept, chains))  # type: ignore[arg-type]
    return _sorted(found)


def _facts(facts: PairFacts, kept: list[int], chains: Chains) -> PairFacts:
    none = np.zeros(len(chains), np.int64)
    counts = {name: np.concatenate([getattr(facts, name)[kept], none]) for name in COUNTS}
    times = {
        name: np.concatenate([getattr(facts, name)[kept], getattr(chains, name).astype(np.int64)])
        for name in ("first_ms", "last_ms")
    }
    versions = tuple(facts.model_versions[row] for row in kept) + ((),) * len(chains)
    return PairFacts(**counts, **times, model_versions=versions)  # type: ignore[arg-type]


def _sorted(pairs: Pairs) -> Pairs:
    order = sorted(range(len(pairs)), key=lambda row: (pairs.query_key[row], pairs.doc_id[row]))
    words = {name: tuple(getattr(pairs, name)[row] for row in order) for name in ("query_key", "query", "doc_id")}
    words |= {name: tuple(getattr(pairs, name)[row] for row in order) for name in ("label", "source")}
    numbers = {
        name: getattr(pairs, name)[order] for name in ("weight", "posterior", "prior", "pull", "impressions", "clicks")
    }
    counts = {name: getattr(pairs.facts, name)[order] for name in (*COUNTS, "first_ms", "last_ms")}
    versions = tuple(pairs.facts.model_versions[row] for row in order)
    facts = PairFacts(**counts, model_versions=versions)
    return replace(pairs, **words, **numbers, facts=facts)  # type: ignore[arg-type]
