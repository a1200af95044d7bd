"""The offline gate for models that were trained elsewhere: rankings of whole collections in, the same verdict out.

Unlike `flywheel.gates.judged` each collection has documents of its own, and nothing is known of a home.
"""

from __future__ import annotations

from collections.abc import Collection as AnyCollection
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.events import normalise_query
from flywheel.gates.decision import GateDecision, PromotionPolicy
from flywheel.gates.judged import JudgedSet, seen_mask
from flywheel.gates.offline import OfflineEvidence, decide_offline
from flywheel.gates.scores import Measured, lost, measure
from flywheel.stats.estimate import Estimate
from flywheel.stats.metrics import parse_metric

Floats = npt.NDArray[np.float64]
Rankings = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class RankedCollection:
    """A judged collection and what each ranker found in it: `rankings[name][i]` are the hits of query i, best first.

    `judged.kind` golden: a gain here is what the model is judged by. anchor: it must lose nothing here.
    """

    judged: JudgedSet
    rankings: Mapping[str, Rankings]


@dataclass(frozen=True, slots=True)
class Compared:
    """One collection: each metric's comparison, which of them are lost beyond the margin, and every ranker's mean."""

    name: str
    queries: int
    measured: Mapping[str, Measured]
    lost: tuple[str, ...]
    means: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Proof:
    """The verdict on all collections together, and the figures of each."""

    decision: GateDecision
    compared: tuple[Compared, ...]


def prove(
    collections: Sequence[RankedCollection],
    model: str,
    against: str,
    *,
    policy: PromotionPolicy,
    alpha: float,
    trained: AnyCollection[str] = (),
) -> Proof:
    """Judge the ranker `model` against the ranker `against`; see `decide_offline` for the rules.

    A gain counts over the queries of all golden collections together. Where there are several, no single one may be
    lost beyond `policy.margin`, nor an anchor beyond `policy.anchor_margin`. `trained` are documents that training
    touched; where they are not known, every query counts as unseen.

    Raises:
        ValueError: no golden collection, or as `decide_offline` does.
    """
    golden = [one for one in collections if one.judged.kind == "golden"]
    if not golden:
        raise ValueError("no collection to judge by")
    scores = {id(one): _pairs(one, model, against, policy.metrics) for one in collections}
    metrics = {
        name: (
            np.concatenate([scores[id(one)][name][0] for one in golden]),
            np.concatenate([scores[id(one)][name][1] for one in golden]),
        )
        for name in policy.metrics
    }
    asked = [normalise_query(text) for one in golden for text in one.judged.queries]
    guarded = [one for one in collections if one.judged.kind == "anchor" or len(golden) > 1]
    evidence = OfflineEvidence(
        metrics=metrics,
        seen=np.concatenate([seen_mask(one.judged, trained) for one in golden]),
        groups=np.unique(asked, return_inverse=True)[1],
        anchors={one.judged.name: scores[id(one)] for one in guarded},
    )
    decision = decide_offline(evidence, policy, alpha)
    return Proof(decision, tuple(_compared(one, scores[id(one)], policy) for one in collections))


def _pairs(one: RankedCollection, model: str, against: str, metrics: Sequence[str]) -> dict[str, tuple[Floats, Floats]]:
    before, after = _scores(one, against, metrics), _scores(one, model, metrics)
    return {name: (before[name], after[name]) for name in metrics}


def _scores(one: RankedCollection, ranker: str, metrics: Sequence[str]) -> dict[str, Floats]:
    return {name: parse_metric(name)(one.rankings[ranker], one.judged.judgements) for name in metrics}


def _compared(one: RankedCollection, pairs: Mapping[str, tuple[Floats, Floats]], policy: PromotionPolicy) -> Compared:
    measured = measure(pairs, None, np.random.default_rng(0))
    margin = policy.margin if one.judged.kind == "golden" else policy.anchor_margin
    level = policy.loss_level / len(measured)
    bad = [
        name
        for name, found in measured.items()
        if isinstance(found.estimate, Estimate) and lost(found.estimate, margin, level)
    ]
    means = {ranker: _means(_scores(one, ranker, list(pairs))) for ranker in one.rankings}
    return Compared(one.judged.name, len(one.judged), measured, tuple(bad), means)


def _means(scores: Mapping[str, Floats]) -> dict[str, float]:
    return {name: float(np.nanmean(values)) for name, values in scores.items()}
