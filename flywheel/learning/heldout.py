"""Held-out feedback for the offline gate: both models rank what people were shown for queries that never train.

It speaks for no challenger. It is a guard that can only hold one back (see `flywheel.gates.scores.HeldOutScores`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.clicks.evidence import Collected, Evidence, Floats, ScoreFeatures
from flywheel.clicks.model import NoEvidenceError, Options, fit
from flywheel.clicks.pairs import Rules, build
from flywheel.gates.scores import HeldOutScores
from flywheel.learning.folds import AUTO, Folds
from flywheel.learning.snapshot import rules_of
from flywheel.settings.load import Config
from flywheel.stats.metrics import ndcg
from flywheel.store.store import Store
from flywheel.store.training.runs import TrainingRun

DEPTH = 10
# one rank for all pairs, worse than any at which a pair was shown, so that `relevance.design` takes it for each
_EVEN = 1e6
Scorer = Callable[[Evidence], Floats]
"""A model's score of each pair, (pairs,); 0 for a document that is not indexed."""


@dataclass(frozen=True, slots=True)
class HeldOutRules:
    """How held-out evidence is read. `rules` and `options` are those of training. `trained`: the documents that
    training touched. `askers`: query key -> the user who has over half of its pages."""

    rules: Rules
    options: Options
    trained: Collection[str]
    askers: Mapping[str, str]


def held_out_scores(
    store: Store, config: Config, run: TrainingRun, champion: Scorer, challenger: Scorer
) -> HeldOutScores:
    """What people did for held-out queries up to `run.until_ms`, scored for both models.

    Of our models' pages only the champion's count. A model stands out least among its own first ten, so the pages of
    an earlier model would speak against a challenger that resembles it (see the tests of this module).
    """
    share, until_ms = config.trainer.dev_share, run.until_ms or 0
    if share <= 0:
        return _nothing("trainer.dev_share is 0, nothing is held out")
    golden = store.golden.query_keys()
    folds = Folds.of(run, share)
    keys = {key for key in store.heldout.query_keys(until_ms) if folds.query(key) == "guard"} - set(golden)
    collected = store.evidence.collect(
        until_ms, config.signals, exclude_keys=golden, only_keys=keys, served_by=run.parent
    )
    trained = store.heldout.trained_documents(keys)
    # what a run holds out may have been trained by an earlier one, if either is a field
    others = [past.tier for past in store.runs.all() if past.run_id != run.run_id]
    never = AUTO not in others and (run.tier != AUTO or not others)
    signals = config.signals
    reading = HeldOutRules(
        rules_of(signals),
        Options(session_context=signals.session_context),
        {doc_id for doc_id in trained if not (never and folds.document(doc_id))},
        store.heldout.askers(keys, until_ms),
    )
    evidence = collected.evidence
    return score(collected, champion(evidence), challenger(evidence), reading)


def score(collected: Collected, ours: Floats, theirs: Floats, reading: HeldOutRules) -> HeldOutScores:
    """nDCG@10 of both models' orders of the documents that were shown, by their posterior relevance.

    Both models are treated alike: swapping their names changes only the sign. Neither ranks a document that nobody was
    shown. The posteriors come from a click model of these queries alone. Its prior sees the mean of both models' scores
    (`ours`, `theirs`: (pairs,), each by its own spread) and no rank. A query without a likely relevant document is not
    scored, and none is where documents do not fall into two kinds. Evidence is capped by user as in training. Queries
    that mostly one person asked are one group.
    """
    evidence = collected.evidence
    try:
        model = fit(evidence, even_features(evidence, ours, theirs), reading.options)
    except NoEvidenceError:
        return _nothing("no pages of held-out queries yet")
    pairs = build(collected, model, reading.rules)
    labelled = zip(pairs.query_key, pairs.label, strict=True)
    relevant = {key for key, label in labelled if label == "positive" and model.two_kinds}
    judged: dict[str, dict[str, float]] = {key: {} for key in evidence.queries}
    columns = zip(pairs.query_key, pairs.doc_id, pairs.label, pairs.posterior, strict=True)
    for key, doc_id, label, posterior in columns:
        if key in relevant and label != "negative":
            judged[key][doc_id] = float(posterior)
    grades = list(judged.values())
    champion, challenger = (ndcg(ranked, grades, DEPTH) for ranked in _ranked(evidence, ours, theirs))
    positive = set(zip(pairs.query_key, pairs.doc_id, pairs.label, strict=True))
    seen = [any((key, doc, "positive") in positive and doc in reading.trained for doc in judged[key]) for key in judged]
    asked = [reading.askers.get(key, f"\0{row}") for row, key in enumerate(evidence.queries)]
    note = "" if model.two_kinds else "documents do not fall into two kinds by these clicks, so they order no models"
    groups = np.unique(asked, return_inverse=True)[1].astype(np.int64)
    return HeldOutScores(champion, challenger, np.array(seen, dtype=bool), groups, note)


def even_features(evidence: Evidence, ours: Floats, theirs: Floats) -> ScoreFeatures:
    """The click model's features from the mean of both models, with one rank for all pairs: the order of the pages is
    mostly the champion's and must not count as relevance."""
    both = (_standard(ours) + _standard(theirs)) / 2
    features = ScoreFeatures.of(evidence, both)
    return ScoreFeatures(features.score, features.gap, np.full(evidence.pairs, _EVEN))


def _standard(scores: Floats) -> Floats:
    indexed = scores[scores != 0]
    spread = float(indexed.std()) if len(indexed) else 0.0
    centred: Floats = np.where(scores != 0, scores - (indexed.mean() if len(indexed) else 0.0), 0.0)
    return centred / spread if spread > 0 else centred


def _ranked(evidence: Evidence, ours: Floats, theirs: Floats) -> tuple[list[list[str]], list[list[str]]]:
    """By query, each model's order of the shown documents that both indexes hold; ties in the order of document ids."""
    indexed = (ours != 0) & (theirs != 0)
    orders = []
    for scores in (ours, theirs):
        ranked: list[list[str]] = [[] for _ in evidence.queries]
        for row in np.lexsort((evidence.pair_document, -scores, evidence.pair_query)):
            if indexed[row]:
                ranked[evidence.pair_query[row]].append(evidence.documents[evidence.pair_document[row]])
        orders.append(ranked)
    return orders[0], orders[1]


def _nothing(why: str) -> HeldOutScores:
    none = np.empty(0)
    return HeldOutScores(none, none, np.empty(0, dtype=bool), np.empty(0, dtype=np.int64), why)
