"""Makes the plan of exploration from the feedback, keeps it in the store, and hands it to serving.

It refuses to explore where clicks do not tell relevant documents from others: nothing could be learned there. It makes
a new plan when feedback has come or the champion has changed, at most every few minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from flywheel.clicks.evidence import Evidence
from flywheel.clicks.model import ClickModel, Curve, NoEvidenceError, Options, ScoreFeatures, fit
from flywheel.exploration.candidates import (
    CHAMPION_DEPTH,
    LEXICAL_DEPTH,
    RIVAL_DEPTH,
    Candidates,
    Lists,
    Vectors,
    candidates_of,
    scores,
)
from flywheel.exploration.plan import Bools, ExplorationPolicy, Floats, Ints, Pool, SlotPlan, believe, plan, state
from flywheel.retrieval.bm25_shared import Words
from flywheel.retrieval.index import Index
from flywheel.retrieval.indexer import Indexers, Stopped
from flywheel.retrieval.registry import BASE, Registry
from flywheel.serving.explorer import PlannedExplorer, Slot
from flywheel.settings.load import Config, Exploration
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.feedback.exploration import Explored
from flywheel.store.store import Store

log = logging.getLogger(__name__)

_CHALLENGER = "challenger"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one planning. The plan is expected to take `share` of all slots and `ctr_cost` of all clicks."""

    queries: int
    candidates: int
    slots: int
    share: float
    ctr_cost: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The queries that are planned for, and what feedback says about their pairs."""

    keys: list[str]
    texts: list[str]
    numbers: Ints  # number in the evidence
    evidence: Evidence
    model: ClickModel


class Planner:
    """Plans on one thread; any number of threads may ask `explorer` meanwhile."""

    def __init__(self, config: Config, store: Store, registry: Registry, indexers: Indexers, words: Words) -> None:
        self._config, self._store, self._words = config, store, words
        self._registry, self._indexers = registry, indexers
        self._encoded: dict[str, dict[str, Vectors]] = {}
        self._settings = config.exploration
        self._policy = exploration_policy(self._settings)
        self._seen: tuple[int, str] | None = None
        self._report: Report | None = None
        swaps = self._settings.swaps if self._settings.enabled else 0.0
        self.explorer = PlannedExplorer(config.trainer.seed, swaps)
        self._serve(store.exploration.slots() if self._settings.enabled else [])

    def step(self, now_ms: int) -> float:
        """Plan if feedback or the champion changed since the last time; returns the seconds until the next look."""
        seen = self._store.feedback.watermark_ms(), self._store.models.aliases()[CHAMPION]
        if seen != self._seen:
            try:
                self.replan(seen[0], now_ms)
            except Stopped:
                return 1.0
            self._seen = seen
        return self._settings.refresh_minutes * 60

    def status(self) -> dict[str, Any]:
        """The last plan's report; empty before the first one."""
        return {} if self._report is None else asdict(self._report)

    def replan(self, until_ms: int, now_ms: int) -> Report:
        """Plan on all feedback up to `until_ms` (event time), write the plan, and serve it from the next page on."""
        if not self._settings.enabled:
            return self._nothing("exploration.enabled is false", now_ms)
        store = self._store
        golden = store.golden.query_keys()
        collected = store.evidence.collect(until_ms, self._config.signals, exclude_keys=golden)
        champion = store.models.aliases()[CHAMPION]
        evidence = collected.evidence
        if not evidence.pairs:
            return self._nothing("nothing was shown yet", now_ms)
        asked = set(collected.texts)
        # vectors of queries that left the feedback leave memory
        self._encoded = {v: {t: x for t, x in vectors.items() if t in asked} for v, vectors in self._encoded.items()}
        try:
            options = Options(session_context=self._config.signals.session_context)
            features = self._features(champion, evidence, collected.texts)
            model = fit(evidence, features, options)
        except NoEvidenceError as reason:
            return self._nothing(str(reason), now_ms)
        shown = np.bincount(evidence.pair_query, weights=evidence.pair_impressions(), minlength=len(evidence.queries))
        numbers = np.sort(np.argsort(-shown, kind="stable")[: self._settings.queries])
        keys, texts = [evidence.queries[i] for i in numbers], [collected.texts[i] for i in numbers]
        return self._plan(_Asked(keys, texts, numbers, evidence, model), champion, now_ms)

    def _plan(self, asked: _Asked, champion: str, now_ms: int) -> Report:
        k = min(self._config.serving.default_k, len(asked.model.curve.relevant))
        has_slot = {(row.query_key, row.doc_id): row.rank is not None for row in self._store.exploration.all()}
        candidates = self._candidates(asked, champion, has_slot, k)
        counts, evidence, posterior, shown = _feedback(asked, candidates)
        prior, posterior = believe(candidates.query, candidates.features, evidence, shown, posterior)
        names = [(asked.keys[q], doc) for q, doc in zip(candidates.query, candidates.documents, strict=True)]
        pool = Pool(
            query=candidates.query,
            place=candidates.place,
            posterior=posterior,
            impressions=counts[:, 0],
            open=np.array([has_slot.get(name, False) for name in names], np.bool_),
            pages=np.bincount(candidates.query, weights=counts[:, 0], minlength=len(asked.keys)) / k,
            clicks=float(asked.evidence.clicks.sum()),
        )
        relevant, irrelevant = _rates(asked.model.curve, k)
        slots = plan(pool, relevant, irrelevant, self._policy)
        wanted = np.union1d(slots.row, np.flatnonzero([name in has_slot for name in names]))
        rows = _rows(
            asked, candidates, slots, np.column_stack([prior, posterior, counts]), wanted, self._policy, champion
        )
        self._store.exploration.replan(rows, now_ms)
        self._serve([row for row in rows if row.rank is not None])
        weight = pool.pages[slots.query] * slots.probability
        return self._told(
            Report(
                queries=len(asked.keys),
                candidates=len(names),
                slots=len(slots),
                share=float(weight.sum() / max(1e-9, pool.pages.sum() * k)),
                ctr_cost=float((weight * slots.cost).sum() / max(1e-9, pool.clicks)),
            )
        )

    def _candidates(self, asked: _Asked, champion: str, explored: Iterable[tuple[str, str]], k: int) -> Candidates:
        index, queries = self._index(champion), self._vectors(champion, asked.texts)
        required: list[list[str]] = [[] for _ in asked.keys]
        number = {key: i for i, key in enumerate(asked.keys)}
        answers: dict[int, dict[str, float]] = {}
        planned = np.full(len(asked.evidence.queries), -1)
        planned[asked.numbers] = np.arange(len(asked.numbers))
        evidence, posterior = asked.evidence, asked.model.posterior
        for pair in np.flatnonzero(planned[evidence.pair_query] >= 0):
            at, doc_id = int(planned[evidence.pair_query[pair]]), evidence.documents[evidence.pair_document[pair]]
            required[at].append(doc_id)
            if posterior[pair] > 0.5:
                answers.setdefault(at, {})[doc_id] = float(posterior[pair])
        for key, doc_id in explored:
            if key in number:
                required[number[key]].append(doc_id)
        lexical = self._words.now()
        lists = Lists(
            champion=index.search(queries, max(k, CHAMPION_DEPTH))[0],
            lexical=None if lexical is None else lexical.search(asked.texts, LEXICAL_DEPTH),
            rival=self._rival(champion, index, asked.texts),
            answers=answers,
            known=required,
        )
        return candidates_of(lists, queries, index, k)

    def _features(self, version: str, evidence: Evidence, texts: tuple[str, ...]) -> ScoreFeatures:
        index = self._index(version)
        indexed = np.array([doc_id in index.hashes for doc_id in evidence.documents], np.bool_)[evidence.pair_document]
        cosines = np.zeros(evidence.pairs)
        documents = [evidence.documents[document] for document in evidence.pair_document[indexed]]
        cosines[indexed] = scores(self._vectors(version, texts), index, evidence.pair_query[indexed], documents)
        return ScoreFeatures.of(evidence, cosines, self._words.scores(evidence, texts))

    def _vectors(self, version: str, texts: Sequence[str]) -> Vectors:
        """Query vectors of a version (n, d); those of the last two versions asked for stay in memory."""
        if version not in self._encoded:
            self._encoded = dict([*self._encoded.items()][-1:]) | {version: {}}
        vectors = self._encoded[version]
        absent = [text for text in texts if text not in vectors]
        if absent:
            vectors.update(zip(absent, self._registry.encoder(version).encode_queries(absent), strict=True))
        return np.stack([vectors[text] for text in texts])

    def _index(self, version: str) -> Index:
        indexer = self._indexers.of(version)
        indexer.catch_up()
        return indexer.index

    def _rival(self, champion: str, index: Index, texts: list[str]) -> list[list[str]] | None:
        """Lists of the first of challenger and base model that shares the champion's index; None: neither does."""
        aliases = self._store.models.aliases()
        for version in (aliases.get(_CHALLENGER), BASE):
            if version in (None, champion):
                continue
            if self._registry.encoder(str(version)).index_id == index.index_id:
                return index.search(self._vectors(str(version), texts), RIVAL_DEPTH)[0]
        return None

    def _serve(self, rows: Sequence[Explored]) -> None:
        slots: dict[str, tuple[Slot, ...]] = {}
        for row in rows:
            slot = Slot(row.doc_id, str(row.displaces), float(row.probability or 0))
            slots[row.query_key] = (*slots.get(row.query_key, ()), slot)
        self.explorer.adopt(slots)

    def _nothing(self, note: str, now_ms: int) -> Report:
        self._store.exploration.replan([], now_ms)
        self._serve([])
        return self._told(Report(0, 0, 0, 0.0, 0.0, note))

    def _told(self, report: Report) -> Report:
        said = report.note or f"{report.slots} slots of {report.queries} queries, {report.share:.2%} of all"
        log.info("exploration: %s; expected to cost %.2g of all clicks", said, report.ctr_cost)
        self._report = report
        return report


def _feedback(asked: _Asked, candidates: Candidates) -> tuple[Floats, Floats, Floats, Bools]:
    """For each candidate: impressions and clicks (n, 2), log likelihood ratio, posterior by clicks, whether shown."""
    evidence, model = asked.evidence, asked.model
    document = {doc_id: number for number, doc_id in enumerate(evidence.documents)}
    pairs = zip(evidence.pair_query.tolist(), evidence.pair_document.tolist(), strict=True)
    row = {pair: i for i, pair in enumerate(pairs)}
    wanted = zip(asked.numbers[candidates.query].tolist(), candidates.documents, strict=True)
    at = np.array([row.get((number, document.get(doc_id, -1)), -1) for number, doc_id in wanted], np.int64)
    shown = at >= 0
    ratio = logit(np.clip(model.posterior, 1e-12, 1 - 1e-12)) - logit(model.prior)
    counts = np.column_stack([evidence.pair_impressions(), evidence.pair_clicks()])
    return (
        np.where(shown[:, None], counts[at], 0.0),
        np.where(shown, ratio[at], 0.0),
        np.where(shown, model.posterior[at], 0.0),
        shown & (counts[at, 0] > 0),
    )


def _rates(curve: Curve, k: int) -> tuple[Floats, Floats]:
    """Click rates by rank over all contexts."""
    weight = curve.impressions / np.maximum(1e-9, curve.impressions.sum(axis=1, keepdims=True))
    return (curve.relevant * weight).sum(axis=1)[:k], (curve.irrelevant * weight).sum(axis=1)[:k]


def exploration_policy(settings: Exploration) -> ExplorationPolicy:
    """`[exploration]` as the planner takes it."""
    return ExplorationPolicy(
        share=settings.share,
        max_ctr_cost=settings.max_ctr_cost,
        probability=settings.probability,
        confirm=settings.confirm,
        drop=settings.drop,
        max_impressions=settings.max_impressions,
        slots=settings.slots,
    )


def _rows(
    asked: _Asked,
    candidates: Candidates,
    made: SlotPlan,
    figures: Floats,
    wanted: Ints,
    policy: ExplorationPolicy,
    version: str,
) -> list[Explored]:
    """The wanted candidates as rows of the table, with the slots of those that have one."""
    slot = {int(row): number for number, row in enumerate(made.row)}
    rows = []
    for i in map(int, wanted):
        number, (prior, posterior, impressions, clicks) = slot.get(i), map(float, figures[i])
        query, stands = int(candidates.query[i]), state(posterior, impressions, policy)
        row = Explored(
            query_key=asked.keys[query],
            query=asked.texts[query],
            doc_id=candidates.documents[i],
            source=candidates.source[i],
            state="waiting" if stands == "open" and number is None else stands,
            prior=prior,
            posterior=posterior,
            impressions=impressions,
            clicks=clicks,
            rank=None if number is None else int(made.rank[number]),
            displaces=None if number is None else candidates.documents[int(made.displaced[number])],
            probability=None if number is None else float(made.probability[number]),
            cost=None if number is None else float(made.cost[number]),
            model_version=version,
        )
        rows.append(row)
    return rows
