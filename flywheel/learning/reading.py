"""What a run makes of its clicks: whether they mean anything, how they are read, and what may be promised of that.

It sees evidence and scores, and neither the store nor the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.clicks.checks.meaning import Meaning, meaning, scores_on
from flywheel.clicks.checks.verified import Verified, grades_of, verify
from flywheel.clicks.evidence import Collected, Evidence, Floats
from flywheel.clicks.model import ClickModel
from flywheel.clicks.pages import ClickLog
from flywheel.clicks.pairs import Pairs, Reading, Rules, build
from flywheel.clicks.sessions import Chains, chained, near

RELEVANT_FROM = 1.0
CARRIED = 0.25
"""Positives by posterior that carry a smaller share of the clicks leave too much unread. `benchmarks/clicks.py` and
`benchmarks.real week` print the share: for simulated people, whom the click model describes, and for 3,000 pages of a
web search log, of whose clicked pairs nine in ten are relevant though hardly any is a positive."""
SAME = 0.8
"""Two readings that share this part of their positives teach the same, so that only one of them is trained."""
ChainScores = Callable[[Chains], Floats]
"""The champion's score of each chain's query and document; 0 for a document that is not indexed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that the store tells of people's clicks: evidence, a sample of its pages, and sessions."""

    collected: Collected
    log: ClickLog
    chains: Chains


@dataclass(frozen=True, slots=True)
class JudgedEvidence:
    """Evidence of judged queries, which never train, and their judgements by normalised query."""

    evidence: Evidence
    judgements: Sequence[tuple[str, Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class Read:
    """The pairs, how they were read, and why. `carried`: the share of clicks on positives by posterior, where asked."""

    pairs: Pairs
    reading: Reading
    meaning: Meaning
    verified: Verified
    promised: int
    carried: float | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is missing first, then what may be said of the positives."""
        return (self.meaning.sentence, self.verified.sentence)


def read(
    seen: Seen,
    model: ClickModel,
    cosines: Floats,
    of_chains: ChainScores,
    judged: JudgedEvidence,
    rules: Rules,
    seed: int,
) -> Read:
    """Label the pairs as the clicks allow.

    Only people's agreement refuses clicks. Where documents fall into two kinds the posterior tells them apart. Where
    they do not, or where it finds few, every clicked pair is a weak positive, and so is what the same session clicked
    for its other queries, if the champion finds it near enough.
    """
    collected, rng = seen.collected, np.random.default_rng([seed, 23])
    evidence = collected.evidence
    means = meaning(seen.log, scores_on(seen.log, evidence, cosines), rng)
    reading: Reading = "nothing"
    if means.holds:
        reading = "posterior" if model.two_kinds else "clicks"
    pairs = build(collected, model, rules, reading)
    carried = _carried(pairs, evidence) if reading == "posterior" else None
    if carried is not None and carried < CARRIED:
        reading = "clicks"
    if reading == "clicks":
        pairs = _by_clicks(seen, model, cosines, of_chains, rules)
    relevant = grades_of(judged.evidence, judged.judgements, RELEVANT_FROM)
    verified = verify(judged.evidence, relevant, evidence, rules.expected_precision, rng)
    return Read(pairs, reading, means, verified, _promised(pairs, evidence, verified), carried)


def other(
    first: Read, seen: Seen, model: ClickModel, cosines: Floats, of_chains: ChainScores, rules: Rules
) -> tuple[Reading, Pairs] | None:
    """The second reading of the same clicks, for a field of challengers.

    None where there is none, or where most of its positives are those of the first: two ways that learn the same.
    """
    if first.reading == "nothing" or (first.reading == "clicks" and not model.two_kinds):
        return None
    reading: Reading = "clicks" if first.reading == "posterior" else "posterior"
    pairs = (
        _by_clicks(seen, model, cosines, of_chains, rules)
        if reading == "clicks"
        else build(seen.collected, model, rules, reading)
    )
    ours, theirs = _positives(first.pairs), _positives(pairs)
    return None if not theirs or len(ours & theirs) >= SAME * len(ours | theirs) else (reading, pairs)


def _by_clicks(seen: Seen, model: ClickModel, cosines: Floats, of_chains: ChainScores, rules: Rules) -> Pairs:
    collected, evidence = seen.collected, seen.collected.evidence
    pairs = build(collected, model, rules, "clicks")
    clicked = cosines[evidence.pair_clicks() > 0]
    close = near(of_chains(seen.chains), clicked[clicked != 0])
    texts = dict(zip(evidence.queries, collected.texts, strict=True))
    return chained(pairs, seen.chains.only(close), texts)


def _positives(pairs: Pairs) -> set[tuple[str, str]]:
    named = zip(pairs.query_key, pairs.doc_id, pairs.label, strict=True)
    return {(key, doc) for key, doc, label in named if label == "positive"}


def _carried(pairs: Pairs, evidence: Evidence) -> float:
    """The share of clicks that is on positives; all of it where nobody clicked."""
    clicks = float(evidence.clicks.sum())
    return float(pairs.clicks[np.array(pairs.label) == "positive"].sum()) / clicks if clicks and len(pairs) else 1.0


def _promised(pairs: Pairs, evidence: Evidence, verified: Verified) -> int:
    """Positives of which the promise holds."""
    rows = np.flatnonzero(verified.promised)
    queries, documents = evidence.pair_query[rows], evidence.pair_document[rows]
    sure = {(evidence.queries[q], evidence.documents[d]) for q, d in zip(queries, documents, strict=True)}
    named = zip(pairs.query_key, pairs.doc_id, pairs.label, strict=True)
    return sum(label == "positive" and (key, doc) in sure for key, doc, label in named)
