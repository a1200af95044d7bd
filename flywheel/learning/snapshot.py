"""From feedback to a training snapshot: evidence, click model, pairs, and which of them are new to the champion.

It trains nothing. The snapshot is all that the trainer ever sees of the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flywheel.clicks.evidence import Evidence
from flywheel.clicks.model import Curve, NoEvidenceError, Options, ScoreFeatures, fit
from flywheel.clicks.pairs import Pairs, Rules
from flywheel.clicks.sessions import Chains
from flywheel.events import normalise_query
from flywheel.learning import second as second_reading
from flywheel.learning.facts import checked, in_words, labelled, why_nothing
from flywheel.learning.folds import AUTO, Folds
from flywheel.learning.reading import ChainScores, JudgedEvidence, Seen, other, read
from flywheel.retrieval.bm25_shared import Words
from flywheel.retrieval.index import Index
from flywheel.retrieval.indexer import Indexers
from flywheel.retrieval.registry import BASE, Registry
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
WEAK_SCALE = 12.0
"""`trainer.scale` where every clicked pair is a positive; half of them are right on a small log of real people. A sharp
softmax fits each to its few nearest documents, right or not; a soft one fits what they have in common. What either
gains: `benchmarks.real learning`."""


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
        signals, golden = self.config.signals, self.store.golden.query_keys()
        until_ms = run.until_ms or 0
        seen = Seen(*self.store.evidence.collect_with_pages(until_ms, signals, exclude_keys=golden))
        collected = seen.collected
        evidence, options = collected.evidence, Options(session_context=signals.session_context)
        queries = self._encoded(run, collected.texts)
        index = self.indexers.of(str(run.parent)).index
        cosines = scores(queries, index, evidence)
        try:
            features = ScoreFeatures.of(evidence, cosines, self.words.scores(evidence, collected.texts))
            model = fit(evidence, features, options, self._last_curve(run))
        except NoEvidenceError as problem:
            raise NothingToLearn((str(problem),), {"until_ms": run.until_ms}) from problem
        found = read(
            seen, model, cosines, _of_chains(queries, index, evidence), self._judged(until_ms, golden),
            rules_of(signals), run.seed or 0,
        )  # fmt: skip
        pairs = found.pairs
        if run.tier == AUTO:
            self._keep(run, other(found, seen, model, cosines, _of_chains(queries, index, evidence), rules_of(signals)))
        self.store.pairs.write(run.run_id, pairs, excluded=collected.excluded, model=model, collected=collected)
        self.store.checks.write(run.run_id, checked(found, model))
        since = self._trained_on(run)
        indexed = set(self.indexers.of(str(run.parent)).index.doc_ids)
        fresh = self.store.pairs.new_since(run.run_id, since)["doc_id"].to_pylist()
        new = sum(doc_id in indexed for doc_id in fresh)
        clicked = evidence.pair_clicks() > 0
        facts = {
            "impressions": float(evidence.impressions.sum()),
            "pairs_shown": evidence.pairs,
            "positives": pairs.count("positive"),
            "new_positives": new,
            "gone_positives": len(fresh) - new,
            "excluded_users": len(collected.excluded),
            "reading": found.reading,
            "clicked_pairs": int(clicked.sum()),
            "gone_clicked_pairs": int((clicked & (cosines == 0)).sum()),
            "warnings": [*found.reasons, *model.warnings],
        }
        log.info("%s", in_words(run, facts), extra={"run_id": run.run_id})
        if not new:
            self._asked.clear()
            raise NothingToLearn(why_nothing(facts), facts)
        return Gathered(new, len(self._replay(run, since)))

    def snapshot(self, run: TrainingRun) -> Path:
        """The run's snapshot folder, written now unless it is complete already; a complete one is never changed."""
        tier = "query_tower" if run.tier == AUTO else run.tier
        return self._write(run, self.home.snapshots / run.run_id, tier, self._pairs)

    def full(self, run: TrainingRun) -> Path:
        """The run's snapshot with the texts of the documents, for the challenger that trains both towers."""
        return self._write(run, self._beside(run, "full"), "full", self._pairs)

    def second(self, run: TrainingRun) -> tuple[str, Path] | None:
        """The second reading of the run's clicks and its snapshot; None where the run has one reading only."""
        read = second_reading.kept(self._beside(run, "read"))
        if read is None:
            return None

        def pairs(_: TrainingRun) -> pa.Table:
            return read[1]

        try:
            return read[0], self._write(run, self._beside(run, "second"), "query_tower", pairs, read[0])
        except NothingToLearn:  # all of its positives are held out in this run
            return None

    def _keep(self, run: TrainingRun, second: tuple[str, Pairs] | None) -> None:
        if second is not None:
            second_reading.keep(self._beside(run, "read"), *second, self.known_ms(run))

    def _beside(self, run: TrainingRun, part: str) -> Path:
        return second_reading.folder_of(self.home.snapshots, run.run_id, part)

    def known_ms(self, run: TrainingRun) -> int:
        """Up to when the champion has learned; 0 for the base model."""
        since = self._trained_on(run)
        before = None if since is None else self.store.runs.get(since)
        return 0 if before is None else before.until_ms or 0

    def _write(
        self,
        run: TrainingRun,
        folder: Path,
        tier: str,
        pairs_of: Callable[[TrainingRun], pa.Table],
        reading: str | None = None,
    ) -> Path:
        if (folder / MANIFEST).exists():
            return folder
        indexer = self.indexers.of(str(run.parent))
        indexer.catch_up()
        doc_ids = indexer.index.doc_ids
        texts = self.store.documents.contents(doc_ids) if tier == "full" else None
        weak = self.reading(run) == "clicks" if reading is None else reading == "clicks"
        recipe = Recipe.model_validate({**self.config.trainer.model_dump(), "tier": tier, **self._softer(tier, weak)})
        pairs = pairs_of(run)
        if run.tier == AUTO:
            pairs = self._in_folds(run, pairs, set(doc_ids))
        return write_snapshot(
            folder,
            header=self._header(run, tier),
            recipe=recipe,
            budget=ResourceBudget.of(self.config.limits),
            pairs=pairs,
            documents=Corpus(doc_ids, indexer.index.vectors(doc_ids), texts, self._probes(run, tier, doc_ids)),
            anchors=self._anchors(),
            query_vectors=self._asked_in(run, pairs),
        )

    def reading(self, run: TrainingRun) -> str | None:
        """How the run's clicks were read."""
        told = self.store.checks.latest()
        return told["reading"] if told is not None and told["run_id"] == run.run_id else None

    def _softer(self, tier: str, weak: bool) -> dict[str, float]:
        """A lower `trainer.scale` for clicks that are read weakly, unless somebody set one."""
        settings = self.config.trainer
        if not weak or tier == "full" or "scale" in settings.model_fields_set:
            return {}
        return {"scale": min(settings.scale, WEAK_SCALE)}

    def _in_folds(self, run: TrainingRun, pairs: pa.Table, indexed: set[str]) -> pa.Table:
        share, since = self.config.trainer.dev_share, self._trained_on(run)
        before = None if since is None else self.store.runs.get(since)
        left = Folds.of(run, share).split(pairs, None if before is None else Folds.of(before, share))
        positive = zip(left["label"].to_pylist(), left["doc_id"].to_pylist(), strict=True)
        if not any(label == "positive" and doc_id in indexed for label, doc_id in positive):
            raise NothingToLearn(("every positive pair is held out in this run; gather more feedback",), {})
        return left

    def _asked_in(self, run: TrainingRun, pairs: pa.Table) -> tuple[Sequence[str], Vectors] | None:
        """The champion's vectors of these pairs' queries, if `gather` kept them."""
        # the snapshots of a field ask more than once
        kept = self._asked.get if run.tier == AUTO else self._asked.pop
        texts, vectors = kept(run.run_id, ((), np.empty((0, 0), np.float32)))
        wanted = set(pairs["query"].to_pylist())
        rows = [row for row, text in enumerate(texts) if text in wanted]
        return ([texts[row] for row in rows], vectors[rows]) if rows else None

    def _header(self, run: TrainingRun, tier: str) -> Header:
        return Header(
            run_id=run.run_id,
            version=str(run.version),
            parent=str(run.parent),
            champion_path=str(self.registry.path(str(run.parent)).resolve()),
            base_path=str(self.registry.path(BASE).resolve()),
            index_id=self.registry.encoder(str(run.parent)).index_id,
            seed=run.seed or 0,
            tier=tier,  # type: ignore[arg-type]  # one of the configured tiers, checked where the run was asked for
            created_at_ms=run.started_at_ms,
        )

    def _pairs(self, run: TrainingRun) -> pa.Table:
        since = self._trained_on(run)
        new, replay = self.store.pairs.new_since(run.run_id, since), self._replay(run, since)
        masked = self.store.pairs.masked(run.run_id)
        parts = [labelled(new, "new"), labelled(replay, "replay"), labelled(masked, "new")]
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

    def _probes(self, run: TrainingRun, tier: str, doc_ids: Sequence[str]) -> list[str]:
        """The first words of some documents; each run draws others."""
        settings = self.config.trainer
        wanted = settings.probes if settings.probe_weight and tier != "full" else 0
        count = min(len(doc_ids), wanted)
        rows = np.random.default_rng([run.seed or 0, count]).choice(len(doc_ids), count, replace=False)
        contents = self.store.documents.contents([doc_ids[row] for row in np.sort(rows)])
        texts = {" ".join(contents[doc_id].split()[:_PROBE_WORDS]) for doc_id in sorted(contents)}
        return sorted(texts)

    def _encoded(self, run: TrainingRun, texts: Sequence[str]) -> Vectors:
        """The champion's vectors of these queries."""
        self.indexers.of(str(run.parent)).catch_up()
        queries = self.registry.encoder(str(run.parent)).encode_queries(list(texts))
        self._asked.clear()
        if run.tier in (AUTO, "adapter"):  # this tier needs only the vectors; the others encode the words themselves
            self._asked[run.run_id] = texts, queries
        return queries

    def _judged(self, until_ms: int, golden: set[str]) -> JudgedEvidence:
        """What people did for golden queries. It never trains; it tells what positives are worth."""
        sets = self.store.golden.current("golden")
        if not sets:
            return JudgedEvidence(Evidence.nothing(), [])
        evidence = self.store.evidence.collect(until_ms, self.config.signals, only_keys=golden).evidence
        told = [
            (normalise_query(text), grades)
            for judged in sets
            for text, grades in zip(judged.queries, judged.judgements, strict=True)
        ]
        return JudgedEvidence(evidence, told)

    def _last_curve(self, run: TrainingRun) -> Curve | None:
        """The curve of the last run, for ranks that are seldom shown now."""
        last = [past for past in self.store.runs.all() if past.run_id != run.run_id]
        return self.store.pairs.curve(last[-1].run_id) if last else None


def rules_of(signals: Signals) -> Rules:
    """How `[signals]` makes a label of a posterior."""
    return Rules(signals.posterior_threshold, signals.ambiguous_threshold, signals.expected_precision)


def scores(queries: Vectors, index: Index, evidence: Evidence) -> npt.NDArray[np.float64]:
    """Cosines (pairs,) of each pair's query (vectors `queries`, (n, d)) and document; 0 for one that is not indexed."""
    return _cosines(queries, index, evidence.pair_query, evidence.documents, evidence.pair_document)


def _cosines(
    queries: Vectors,
    index: Index,
    query: npt.NDArray[np.integer],
    doc_ids: Sequence[str],
    document: npt.NDArray[np.integer],
) -> npt.NDArray[np.float64]:
    indexed = set(index.doc_ids)
    documents = np.zeros((len(doc_ids), index.dimension), np.float32)
    rows = [row for row, doc_id in enumerate(doc_ids) if doc_id in indexed]
    documents[rows] = index.vectors([doc_ids[row] for row in rows])
    cosines = np.empty(len(query))
    for start in range(0, len(query), _CHUNK):
        part = slice(start, start + _CHUNK)
        cosines[part] = np.einsum("ij,ij->i", queries[query[part]], documents[document[part]])
    return cosines


def _of_chains(queries: Vectors, index: Index, evidence: Evidence) -> ChainScores:
    """The champion's scores of what sessions clicked for their other queries."""
    number = {key: row for row, key in enumerate(evidence.queries)}

    def told(chains: Chains) -> npt.NDArray[np.float64]:
        asked = np.array([number.get(key, 0) for key in chains.query], np.int64)
        names, document = np.unique(np.array(chains.doc_id, object), return_inverse=True)
        return _cosines(queries, index, asked, names.tolist(), document) if len(chains) else np.zeros(0)

    return told
