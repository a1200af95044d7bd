"""What clicks say about relevance: how people examine a page, and from that the posterior of each document.

Whether clicks mean anything is not for it to say: `flywheel.clicks.checks` asks the people. It does say whether there
are two kinds of documents at all. The method is regression EM over aggregates.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from flywheel.clicks.ends import Ends
from flywheel.clicks.evidence import Evidence, Floats, ScoreFeatures, sums
from flywheel.clicks.examination import (
    CONTEXTS,
    MAX_RANK,
    Cascade,
    Contexts,
    Ranks,
    Rates,
    Rows,
    Scheme,
    place_name,
    pulled,
)
from flywheel.clicks.kinds import CLEAR, advantage
from flywheel.clicks.prior import design, logistic

__all__ = ["CONTEXTS", "ClickModel", "Curve", "Evidence", "NoEvidenceError", "Options", "ScoreFeatures", "fit"]


@dataclass(frozen=True, slots=True)
class Curve:
    """Click rates by (rank, context), rank 1 in row 0, and how clicks end, for relevant and irrelevant documents.

    `relevant`, `irrelevant`, `impressions`: (ranks, 3). `ends_relevant`, `ends_irrelevant`: probability that a measured
    click is satisfied, in between, or bounced.
    """

    relevant: Floats
    irrelevant: Floats
    impressions: Floats
    ends_relevant: Floats
    ends_irrelevant: Floats

    @property
    def examination(self) -> Floats:
        """Chance to be examined by rank, relative to the first rank, from clicks without a click above."""
        first: Floats = self.relevant[:, 0] / self.relevant[0, 0]
        return first


@dataclass(frozen=True, slots=True)
class Options:
    """How to fit. `session_context`: use what was clicked above. `min_impressions`: a rank with fewer has no curve of
    its own."""

    session_context: bool
    iterations: int = 200
    tolerance: float = 1e-4
    context_shrinkage: float = 50.0
    likely: float = 0.5
    min_impressions: float = 100.0
    max_rank: int = MAX_RANK


@dataclass(frozen=True, slots=True)
class ClickModel:
    """The fit: posterior and prior relevance by pair, the curve, and how far it can be trusted.

    `gain` is the log likelihood above that of clicks which do not depend on relevance. `clear` is that of two kinds of
    documents above a continuum, see `flywheel.clicks.kinds`. `pull` is the chance that people click the pair's document
    wherever they see it, judged by its other queries. `scheme` is how people examine a page, judged by their clicks: by
    rank, by context or as a cascade. `onward` are a cascade's probabilities to go on: after a click on an irrelevant
    document, after a click on a relevant one, and after a skip.
    """

    curve: Curve
    posterior: Floats
    prior: Floats
    pull: Floats
    iterations: int
    converged: bool
    gain: float
    clear: float
    warnings: tuple[str, ...] = field(default=())
    scheme: str = "rank"
    onward: tuple[float, float, float] | None = None

    @property
    def two_kinds(self) -> bool:
        """Whether documents are relevant or not, rather than more and less attractive: what the posterior rests on."""
        return self.clear > CLEAR


class NoEvidenceError(ValueError):
    """There is nothing to fit: no impressions at all."""


def fit(evidence: Evidence, features: ScoreFeatures, options: Options, previous: Curve | None = None) -> ClickModel:
    """Regression EM over aggregates, for each scheme of examination; the one that explains the clicks best is kept.

    The fit is deterministic. Each pair has one relevance, at whatever rank it was shown, with a logistic prior on the
    champion's score, gap and rank (Wang et al., WSDM 2018, section 3.3, with a regression on soft labels). The schemes
    (see `flywheel.clicks.examination`) are compared by log likelihood less half their parameters times the log of the
    pairs (Schwarz 1978). `previous` lends its rates to ranks with fewer than `options.min_impressions`.

    Raises:
        NoEvidenceError: no impressions.
    """
    if not len(evidence.pair) or evidence.impressions.sum() <= 0:
        raise NoEvidenceError("no impressions to learn from; pages need hit_ids or impression events")
    rows = Rows.of(evidence, options.max_rank)
    lent, warnings = _weak_ranks(rows, options, previous)
    em = _best(rows, design(evidence, features), options, lent)
    if not em.converged:
        warnings.append(f"EM had not converged after {em.iterations} iterations")
    scheme = em.scheme
    return ClickModel(
        _curve(em), em.posterior, em.prior, em.pull, em.iterations, em.converged, _gain(em), em.clear(),
        tuple(warnings), scheme.name, (*scheme.after.tolist(), scheme.onward) if isinstance(scheme, Cascade) else None,
    )  # fmt: skip


def _weak_ranks(rows: Rows, options: Options, previous: Curve | None) -> tuple[dict[int, Rates], list[str]]:
    """Rates of the last curve for ranks that were shown too rarely, and a warning for each such rank."""
    lent: dict[int, Rates] = {}
    warnings = []
    for rank in np.flatnonzero((rows.shown < options.min_impressions) & (rows.shown > 0)):
        has_rate = previous is not None and rank < len(previous.relevant)
        if previous is not None and has_rate:
            lent[int(rank)] = (previous.relevant[rank], previous.irrelevant[rank])
        source = "the last curve is used" if has_rate else "there is no last curve, the shrunken estimate is used"
        warnings.append(
            f"{place_name(int(rank))}: {rows.shown[rank]:.0f} weighted impressions,"
            f" fewer than {options.min_impressions:.0f}: {source}"
        )
    return lent, warnings


def _best(rows: Rows, columns: Floats, options: Options, lent: dict[int, Rates]) -> _Em:
    """The fit of the scheme with the highest likelihood less the price of its parameters."""
    evidence = rows.evidence
    ranks = Ranks(rows, lent)
    by_rank = _Em(rows, columns, options, ranks)
    by_rank.run()
    fits = [by_rank]
    if options.session_context and len(evidence.set_start) > 2:
        by_context = by_rank.copy()
        for _ in range(2):  # contexts depend on which pairs are likely relevant, and the first fit changes that
            likely = by_context.posterior > options.likely
            by_context.scheme = Contexts(rows, Ranks(rows, lent), likely, options.context_shrinkage)
            by_context.scheme.ranks.relevant, by_context.scheme.ranks.irrelevant = ranks.relevant, ranks.irrelevant
            by_context.run()
        fits.append(by_context)
        if evidence.distance is not None:
            cascade = _Em(rows, columns, options, Cascade(rows, evidence.distance))
            cascade.run()
            fits.append(cascade)
    return max(fits, key=_Em.score)


START_PRIOR = 0.1
PULLS = np.array([0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2])
SIEGES = np.array([0.1, 0.2, 0.3, 0.45, 0.65, 0.85])
ASKED = np.array([1.5, 3.0])
# prior chances of a document: clicked wherever it is shown, besieged by colluders, answers more than its scores say
BAIT, BESIEGED, SOUGHT = 5e-3, 1e-4, 1e-4
PULL_PRIOR = np.log(
    [
        1 - BAIT - BESIEGED - SOUGHT,
        *np.full(len(PULLS) - 1, BAIT / (len(PULLS) - 1)),
        BESIEGED,
        *np.full(len(ASKED), SOUGHT / len(ASKED)),
    ]
)


class _Em:
    """The state of one fit."""

    def __init__(self, rows: Rows, columns: Floats, options: Options, scheme: Scheme) -> None:
        self.rows, self.columns, self.options, self.scheme = rows, columns, options, scheme
        evidence = rows.evidence
        self.skips = np.maximum(0.0, evidence.impressions - evidence.clicks)
        self.coefficients = np.zeros(columns.shape[1])
        self.coefficients[0] = logit(START_PRIOR)
        self.prior = np.full(evidence.pairs, START_PRIOR)
        self.posterior = self.by_clicks = self.prior.copy()
        self.pull = np.zeros(evidence.pairs)
        self.ends = Ends(evidence)
        self.iterations, self.converged = 0, False

    def copy(self) -> _Em:
        """Another fit that starts from where this one ended."""
        twin = copy.copy(self)
        twin.ends = copy.copy(self.ends)
        return twin

    def run(self) -> None:
        """Iterate until no posterior moves by the tolerance on average, or to the limit."""
        self.converged = False
        for iteration in range(1, self.options.iterations + 1):
            before = self.posterior
            self._expect()
            self._maximise()
            self.iterations += 1
            if iteration > 5 and iteration % 5 == 1:
                self._draw()
            if iteration > 8 and np.abs(self.posterior - before).mean() < self.options.tolerance:
                self.converged = True
                return

    def score(self) -> float:
        """Log likelihood less the price of the scheme's parameters (half the Bayesian information criterion)."""
        return self.log_likelihood() - 0.5 * self.scheme.parameters * math.log(max(2, self.rows.evidence.pairs))

    def log_likelihood(self) -> float:
        """The log likelihood of all clicks and skips, relevance summed out."""
        return float(self._by_pair().sum())

    def _by_pair(self) -> Floats:
        """The same of each pair: (pairs,)."""
        if_relevant, if_not = self._likelihoods()
        told: Floats = np.logaddexp(np.log(self.prior) + if_relevant, np.log1p(-self.prior) + if_not)
        return told

    def clear(self) -> float:
        """How much better two kinds of documents explain the clicks than a continuum of them."""
        evidence = self.rows.evidence
        return advantage(self._by_pair(), self.columns, evidence.pair, evidence.clicks, self.skips, self._rates())

    def _rates(self) -> Rates:
        """The scheme's rates by row, with the pull of irrelevant documents.

        It is capped by the relevant rate: however strong the pull, a click never speaks against relevance.
        """
        relevant, irrelevant = self.scheme.rates()
        return relevant, np.minimum(pulled(irrelevant, self.pull[self.rows.evidence.pair]), relevant)

    def _likelihoods(self) -> Rates:
        """Log likelihood of each pair's clicks if relevant, and if not."""
        relevant, irrelevant = self._rates()
        return self._told(relevant), self._told(irrelevant)

    def _expect(self) -> None:
        if_relevant, if_not = self._likelihoods()
        odds = logit(self.prior) + if_relevant - if_not
        self.by_clicks = expit(np.clip(odds, -30, 30))
        self.posterior = expit(np.clip(odds + self.ends.log_odds(), -30, 30))

    def _maximise(self) -> None:
        self.scheme.update(self.posterior, self.pull)
        self.ends.maximise(self.by_clicks)
        self.coefficients = logistic(self.columns, self.posterior, self.coefficients)
        self.prior = np.clip(expit(self.columns @ self.coefficients), 0.001, 0.95)

    def _draw(self) -> None:
        """Estimate each pair's pull: the chance that people click its document wherever it is shown.

        Colluders show as one document that is clicked under many queries which it does not answer, with the same chance
        at every rank. Their clicks add to an irrelevant document's; a factor on its rate (Yue, Patel & Roehrig, WWW
        2010) would take documents that answer several queries for bait. A pair's pull is the mean given the document's
        other queries, relevance summed out of each. A priori one document in 200 is bait, and the likelier so the more
        of its clickers click nothing else. One in 10,000 is besieged by colluders who search what shows it: their share
        then differs by query, and the query's own clicks tell it. Another one in 10,000 answers far more queries than
        its scores say: the logit of its prior is higher by one of `ASKED`, and clicks there are no pull.
        """
        evidence, count = self.rows.evidence, len(self.rows.evidence.documents)
        relevant, irrelevant = self.scheme.rates()
        answered, unlike = self._told(relevant), np.log1p(-self.prior)
        good = np.log(self.prior) + answered
        drawn, sieges = (
            np.stack(
                [self._told(np.minimum(pulled(irrelevant, np.full_like(irrelevant, pull)), relevant)) for pull in grid]
            )
            for grid in (PULLS, SIEGES)
        )
        siege = np.logaddexp.reduce(sieges, axis=0)
        by_case = [np.logaddexp(good, unlike + if_pulled) for if_pulled in (*drawn, siege - math.log(len(SIEGES)))]
        for more in ASKED:  # without any pull
            likely = logit(self.prior) + more
            by_case.append(np.logaddexp(np.log(expit(likely)) + answered, np.log(expit(-likely)) + drawn[0]))
        of = evidence.pair_document
        others = np.stack([sums(of, own, count)[of] - own for own in by_case]) + PULL_PRIOR[:, None]
        if evidence.idle is not None:
            others[1 : len(PULLS) + 1] += evidence.idle[of]
        weight = np.exp(others - others.max(axis=0))
        own = SIEGES @ np.exp(sieges - siege)
        self.pull = (PULLS @ weight[: len(PULLS)] + own * weight[len(PULLS)]) / weight.sum(axis=0)

    def _told(self, rates: Floats) -> Floats:
        """Log likelihood of each pair's clicks under these rates of its rows."""
        return self.rows.by_pair(self.rows.evidence.clicks * np.log(rates) + self.skips * np.log1p(-rates))


def _gain(em: _Em) -> float:
    """The gain in log likelihood over click rates by rank, and by whether there is a click above, without relevance."""
    rows, evidence = em.rows, em.rows.evidence
    cell = 2 * rows.place + (evidence.above > 0)
    clicks, shown = sums(cell, evidence.clicks, 2 * rows.ranks), sums(cell, evidence.impressions, 2 * rows.ranks)
    rate = np.clip(clicks / np.maximum(shown, 1e-9), 1e-9, 1 - 1e-9)[cell]
    return em.log_likelihood() - float(evidence.clicks @ np.log(rate) + em.skips @ np.log1p(-rate))


def _curve(em: _Em) -> Curve:
    """The scheme's rates by rank and context; a cascade's are the mean over the rows of each."""
    rows, scheme = em.rows, em.scheme
    cell = rows.place * CONTEXTS
    if not isinstance(scheme, Ranks):
        cell = scheme.cell if isinstance(scheme, Contexts) else cell + rows.contexts(em.posterior > em.options.likely)
    shown = rows.evidence.impressions
    total = sums(cell, shown, rows.ranks * CONTEXTS)
    means = [sums(cell, shown * rates, len(total)) / np.maximum(total, 1e-12) for rates in scheme.rates()]
    # a context without impressions takes the rates of the rank's first context that has some
    first = (total.reshape(-1, CONTEXTS) > 0).argmax(axis=1)
    relevant, irrelevant = (
        np.where(total.reshape(-1, CONTEXTS) > 0, mean, mean[np.arange(rows.ranks), first][:, None])
        for mean in (mean.reshape(-1, CONTEXTS) for mean in means)
    )
    return Curve(relevant, irrelevant, total.reshape(-1, CONTEXTS), em.ends.good, em.ends.bad)
