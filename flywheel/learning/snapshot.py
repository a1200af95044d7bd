"""From feedback to a training snapshot: evidence, click model, pairs, and which of them are new to the champion.

It trains nothing. The snapshot is all that the trainer ever sees of the store.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.clicks.evidence import Evidence
from flywheel.clicks.model import Curve, NoEvidenceError, Options, ScoreFeatures, fit
from flywheel.clicks.pairs import Rules, build
from flywheel.retrieval.index import Index
from flywheel.retrieval.indexer import Indexers
from flywheel.retrieval.registry import BASE, Registry
from flywheel.retrieval.words import Words
from flywheel.settings.home import Home
from flywheel.settings.load import Config, Signals
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun
from trainer.data.dataset import MANIFEST, Corpus, write_snapshot
from trainer.data.recipe import Header, Recipe, ResourceBudget

Vectors = npt.NDArray[np.float32]
log = logging.getLogger(__name__)

_CHUNK = 65_536  # pairs at a time, which bounds the memory of the copied vectors
_PROBE_WORDS = 16  # about a title
_COLUMNS = ("query", "doc_id", "label", "weight", "posterior")


class NothingToLearn(Exception):  # noqa: N818 - reads as what is the case
    """The evidence gives no pair to train on; `reasons` say why, and what would change that."""

    def __init__(self, reasons: tuple[str, ...], evidence: dict[str, Any]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons, self.evidence = reasons, evidence


@dataclass(frozen=True, slots=True)
class Gathered:
    """How many positive pairs are new to the champion, and how many are replayed."""

    new: int
    replay: int


@dataclass(frozen=True)
class Learning:
    """Reads the store, asks the champion for scores, writes pairs and snapshots."""

    home: Home
    config: Config
    store: Store
    registry: Registry
    indexers: Indexers
    words: Words
    # the champion's query vectors of a run, kept from `gather` to `snapshot` so that they are encoded once
    _asked: dict[str, tuple[Sequence[str], Vectors]] = field(default_factory=dict, repr=False, compare=False)

    def gather(self, run: TrainingRun) -> Gathered:
        """Fit the click model on everything up to `run.until_ms` and write the run's pairs.

        Raises:
            NothingToLearn: no impressions, clicks that say nothing about relevance, or no pair new to the champion.
        """
        signals = self.config.signals
        exclude = self.store.golden.query_keys()
        collected = self.store.evidence.collect(run.until_ms or 0, signals, exclude_keys=exclude)
        evidence = collected.evidence
        options = Options(session_context=signals.session_context)
        try:
            model = fit(evidence, self._features(run, evidence, collected.texts), options, self._last_curve(run))
        except NoEvidenceError as problem:
            raise NothingToLearn((str(problem),), {"until_ms": run.until_ms}) from problem
        pairs = build(collected, model, rules_of(signals))
        self.store.pairs.write(run.run_id, pairs, excluded=collected.excluded, model=model, collected=collected)
        since = self._trained_on(run)
        indexed = set(self.indexers.of(str(run.parent)).index.doc_ids)
        fresh = self.store.pairs.new_since(run.run_id, since)["doc_id"].to_pylist()
        new = sum(doc_id in indexed for doc_id in fresh)
        facts = {
            "impressions": float(evidence.impressions.sum()),
            "pairs_shown": evidence.pairs,
            "positives": pairs.count("positive"),
            "new_positives": new,
            "gone_positives": len(fresh) - new,
            "excluded_users": len(collected.excluded),
            "warnings": list(model.warnings),
        }
        log.info("run %s: %s", run.run_id, facts)
        if not new:
            self._asked.clear()
            raise NothingToLearn(_why_nothing(facts), facts)
        return Gathered(new, len(self._replay(run, since)))

    def snapshot(self, run: TrainingRun) -> Path:
        """The run's snapshot folder, written now unless it is complete already; a complete one is never changed."""
        folder = self.home.snapshots / run.run_id
        if (folder / MANIFEST).exists():
            return folder
        indexer = self.indexers.of(str(run.parent))
        indexer.catch_up()
        tier = run.tier
        doc_ids = indexer.index.doc_ids
        texts = self.store.documents.contents(doc_ids) if tier == "full" else None
        recipe = Recipe.model_validate({**self.config.trainer.model_dump(), "tier": tier})
        pairs = self._pairs(run)
        return write_snapshot(
            folder,
            header=self._header(run),
            recipe=recipe,
            budget=ResourceBudget.of(self.config.limits),
            pairs=pairs,
            documents=Corpus(doc_ids, indexer.index.vectors(doc_ids), texts, self._probes(run, doc_ids)),
            anchors=self._anchors(),
            query_vectors=self._asked_in(run, pairs),
        )

    def _asked_in(self, run: TrainingRun, pairs: pa.Table) -> tuple[Sequence[str], Vectors] | None:
        """The champion's vectors of these pairs' queries, if `gather` kept them."""
        texts, vectors = self._asked.pop(run.run_id, ((), np.empty((0, 0), np.float32)))
        wanted = set(pairs["query"].to_pylist())
        rows = [row for row, text in enumerate(texts) if text in wanted]
        return ([texts[row] for row in rows], vectors[rows]) if rows else None

    def _header(self, run: TrainingRun) -> Header:
        return Header(
            run_id=run.run_id,
            version=str(run.version),
            parent=str(run.parent),
            champion_path=str(self.registry.path(str(run.parent)).resolve()),
            base_path=str(self.registry.path(BASE).resolve()),
            index_id=self.registry.encoder(str(run.parent)).index_id,
            seed=run.seed or 0,
            tier=run.tier,  # type: ignore[arg-type]  # one of the configured tiers, checked where the run was asked for
            created_at_ms=run.started_at_ms,
        )

    def _pairs(self, run: TrainingRun) -> pa.Table:
        since = self._trained_on(run)
        new, replay = self.store.pairs.new_since(run.run_id, since), self._replay(run, since)
        masked = self.store.pairs.masked(run.run_id)
        parts = [_labelled(new, "new"), _labelled(replay, "replay"), _labelled(masked, "new")]
        return pa.concat_tables(parts, promote_options="permissive")

    def _replay(self, run: TrainingRun, since: str | None) -> pa.Table:
        size = self.config.trainer.replay_size
        return self.store.pairs.replay(run.run_id, since, size=size, seed=self.config.trainer.seed)

    def _trained_on(self, run: TrainingRun) -> str | None:
        """The run whose pairs the champion was trained on: those are replayed, all others are new to it."""
        champion = self.store.models.get(str(run.parent))
        return None if champion is None else champion.run_id

    def _anchors(self) -> pa.Table | None:
        texts = [text for judged in self.store.golden.current("anchor") for text in judged.queries]
        if not texts:
            return None
        return pa.table({"query": texts, "doc_id": pa.array([None] * len(texts), pa.string())})

    def _probes(self, run: TrainingRun, doc_ids: Sequence[str]) -> list[str]:
        """The first words of some documents; each run draws others."""
        settings = self.config.trainer
        wanted = settings.probes if settings.probe_weight and run.tier != "full" else 0
        count = min(len(doc_ids), wanted)
        rows = np.random.default_rng([run.seed or 0, count]).choice(len(doc_ids), count, replace=False)
        contents = self.store.documents.contents([doc_ids[row] for row in np.sort(rows)])
        texts = {" ".join(contents[doc_id].split()[:_PROBE_WORDS]) for doc_id in sorted(contents)}
        return sorted(texts)

    def _features(self, run: TrainingRun, evidence: Evidence, texts: Sequence[str]) -> ScoreFeatures:
        indexer = self.indexers.of(str(run.parent))
        indexer.catch_up()
        queries = self.registry.encoder(str(run.parent)).encode_queries(list(texts))
        self._asked.clear()
        if run.tier == "adapter":  # this tier needs only the vectors; the others encode the words themselves
            self._asked[run.run_id] = texts, queries
        words = self.words.scores(evidence, texts)
        return ScoreFeatures.of(evidence, scores(queries, indexer.index, evidence), words)

    def _last_curve(self, run: TrainingRun) -> Curve | None:
        """The curve of the last run, for ranks that are seldom shown now."""
        last = [past for past in self.store.runs.all() if past.run_id != run.run_id]
        return self.store.pairs.curve(last[-1].run_id) if last else None


def rules_of(signals: Signals) -> Rules:
    """How `[signals]` makes a label of a posterior."""
    return Rules(signals.posterior_threshold, signals.ambiguous_threshold, signals.expected_precision)


def scores(queries: Vectors, index: Index, evidence: Evidence) -> npt.NDArray[np.float64]:
    """Cosines (pairs,) of each pair's query (vectors `queries`, (n, d)) and document; 0 for one that is not indexed."""
    indexed = set(index.doc_ids)
    documents = np.zeros((len(evidence.documents), index.dimension), np.float32)
    rows = [row for row, doc_id in enumerate(evidence.documents) if doc_id in indexed]
    documents[rows] = index.vectors([evidence.documents[row] for row in rows])
    cosines = np.empty(evidence.pairs)
    for start in range(0, evidence.pairs, _CHUNK):
        part = slice(start, start + _CHUNK)
        left, right = queries[evidence.pair_query[part]], documents[evidence.pair_document[part]]
        cosines[part] = np.einsum("ij,ij->i", left, right)
    return cosines


def _labelled(pairs: pa.Table, source: str) -> pa.Table:
    """The trainer's columns. The table's `source` (clicks or explicit) becomes the trainer's `origin`."""
    labelled = pairs.select(_COLUMNS).append_column("source", pa.array([source] * len(pairs), pa.string()))
    return labelled.append_column("origin", pairs["source"].combine_chunks().cast(pa.string()))


def _why_nothing(facts: dict[str, Any]) -> tuple[str, ...]:
    if facts["gone_positives"]:
        return (f"{facts['gone_positives']} new positive pairs are about documents that are gone; nothing to learn",)
    if facts["positives"]:
        return (f"all {facts['positives']} positive pairs are known to the champion already; nothing new to learn",)
    shown = f"{facts['impressions']:.0f} impressions of {facts['pairs_shown']} pairs gave no positive"
    return (shown, *facts["warnings"])
