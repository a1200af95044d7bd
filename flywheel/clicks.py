"""What clicks say about relevance: click rates by rank and session context, and the posterior of each document.

Regression EM over aggregates. It refuses to call anything relevant where clicks do not tell documents apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from flywheel.evidence import Evidence, ScoreFeatures, sums

__all__ = ["CONTEXTS", "ClickModel", "Curve", "Evidence", "NoEvidenceError", "Options", "ScoreFeatures", "fit"]
Floats = npt.NDArray[np.float64]
CONTEXTS = 3
"""0: no click above; 1: clicks above, none on a likely relevant document; 2: some on one."""


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
        """Chance to be looked at by rank, relative to the first rank, as far as clicks without context tell."""
        first: Floats = self.relevant[:, 0] / self.relevant[0, 0]
        return first


@dataclass(frozen=True, slots=True)
class Options:
    """How to fit. `min_impressions`: below it a rank has no curve of its own. `documents`: model clickbait."""

    session_context: bool = True
    iterations: int = 200
    tolerance: float = 1e-4
    context_shrinkage: float = 50.0
    likely: float = 0.5
    min_impressions: float = 100.0
    max_rank: int = 50
    document_shrinkage: float = 6.0


@dataclass(frozen=True, slots=True)
class ClickModel:
    """The fit: posterior and prior relevance by pair, the curve, and whether any of it is to be trusted.

    `gain` is the log likelihood above that of clicks which do not depend on relevance; `separable` says whether it is
    more than chance and free parameters explain. `appeal` multiplies an irrelevant document's click rate.
    """

    curve: Curve
    posterior: Floats
    prior: Floats
    appeal: Floats
    iterations: int
    converged: bool
    gain: float
    separable: bool
    warnings: tuple[str, ...] = field(default=())


class NoEvidenceError(ValueError):
    """There is nothing to fit: no impressions at all."""


def fit(
    evidence: Evidence, features: ScoreFeatures, options: Options | None = None, previous: Curve | None = None
) -> ClickModel:
    """Regression EM with free rates for each rank ("free"), then for each rank and session context.

    Deterministic. Relevance is one unknown for each pair, whatever the rank it was shown at, with a logistic prior on
    the champion's score, gap and rank (Wang et al., WSDM 2018, but over aggregates). `previous` lends its rates to
    ranks with fewer than `options.min_impressions`.

    Raises:
        NoEvidenceError: no impressions.
    """
    options = options or Options()
    if not len(evidence.pair) or evidence.impressions.sum() <= 0:
        raise NoEvidenceError("no impressions to learn from; pages need hit_ids or impression events")
    em = _Em(evidence, features, options, previous)
    iterations, converged = em.run(options.iterations)
    if options.session_context and em.contexts_matter():
        for _ in range(2):
            em.set_contexts()
            more, converged = em.run(options.iterations)
            iterations += more
    gain, separable = em.separability()
    warnings = list(em.warnings)
    if not converged:
        warnings.append(f"EM had not converged after {iterations} iterations")
    posterior = em.posterior
    if not separable:
        warnings.append(
            "clicks do not tell relevant documents from others"
            f" (log likelihood gain {gain:.1f} over none): no positives"
        )
        posterior = np.minimum(posterior, em.start_prior)
    return ClickModel(
        em.curve(), posterior, em.prior, em.appeal, iterations, converged, gain, separable, tuple(warnings)
    )


class _Em:
    """The state of one fit; `cells` are (rank, context) pairs, three to a rank."""

    start_prior = 0.1

    def __init__(self, evidence: Evidence, features: ScoreFeatures, options: Options, previous: Curve | None) -> None:
        self.evidence, self.options = evidence, options
        self.ranks = int(min(evidence.rank.max(), options.max_rank))
        self.row_rank = np.minimum(evidence.rank, self.ranks).astype(np.int64) - 1
        self.cell = self.row_rank * CONTEXTS
        self.shown = self._by_rank(evidence.impressions)
        self.ctr = (self._by_rank(evidence.clicks) + 1) / (self.shown + 10)
        self.relevant = np.repeat(np.minimum(0.95, 2 * self.ctr)[:, None], CONTEXTS, axis=1)
        self.irrelevant = np.repeat(0.5 * self.ctr[:, None], CONTEXTS, axis=1)
        self.skips = np.maximum(0.0, evidence.impressions - evidence.clicks)
        self.design = _design(evidence, features)
        self.coefficients = np.zeros(self.design.shape[1])
        self.coefficients[0] = logit(self.start_prior)
        self.prior = np.full(evidence.pairs, self.start_prior)
        self.posterior = self.prior.copy()
        self.appeal = np.ones(evidence.pairs)
        self.ends = _Ends(evidence)
        self.contexts = False
        self.warnings: list[str] = []
        self.fallback = self._weak_ranks(previous)

    def _by_rank(self, weights: Floats) -> Floats:
        return sums(self.row_rank, weights, self.ranks)

    def _by_cell(self, weights: Floats) -> Floats:
        return sums(self.cell, weights, self.ranks * CONTEXTS).reshape(-1, CONTEXTS)

    def _by_pair(self, weights: Floats) -> Floats:
        return sums(self.evidence.pair, weights, self.evidence.pairs)

    def _weak_ranks(self, previous: Curve | None) -> dict[int, tuple[Floats, Floats]]:
        """Rates for the ranks that were shown too rarely, taken from the last curve where it knows them."""
        lent: dict[int, tuple[Floats, Floats]] = {}
        for rank in np.flatnonzero((self.shown < self.options.min_impressions) & (self.shown > 0)):
            known = previous is not None and rank < len(previous.relevant)
            if previous is not None and known:
                lent[int(rank)] = (previous.relevant[rank], previous.irrelevant[rank])
            source = "the last curve is used" if known else "there is no last curve, the shrunken estimate is used"
            self.warnings.append(
                f"rank {rank + 1}: {self.shown[rank]:.0f} weighted impressions,"
                f" fewer than {self.options.min_impressions:.0f}: {source}"
            )
        return lent

    def run(self, limit: int) -> tuple[int, bool]:
        """Iterate until no posterior moves by the tolerance on average, or to the limit."""
        for iteration in range(1, limit + 1):
            before = self.posterior
            self._expect()
            self._maximise()
            if iteration > 5:
                self._appeal()
            if iteration > 8 and np.abs(self.posterior - before).mean() < self.options.tolerance:
                return iteration, True
        return limit, False

    def _rates(self) -> tuple[Floats, Floats]:
        """Click rates of each row if relevant and if not; appeal never makes a click speak against relevance."""
        relevant = self.relevant.ravel()[self.cell]
        irrelevant = self.irrelevant.ravel()[self.cell] * self.appeal[self.evidence.pair]
        return relevant, np.minimum(irrelevant, relevant)

    def likelihoods(self) -> tuple[Floats, Floats]:
        """Log likelihood of each pair's clicks if relevant, and if not."""
        relevant, irrelevant = self._rates()
        clicks, skips = self.evidence.clicks, self.skips
        if_relevant = self._by_pair(clicks * np.log(relevant) + skips * np.log1p(-relevant))
        if_not = self._by_pair(clicks * np.log(irrelevant) + skips * np.log1p(-irrelevant))
        return if_relevant, if_not

    def _log_likelihood(self) -> float:
        if_relevant, if_not = self.likelihoods()
        return float(np.logaddexp(np.log(self.prior) + if_relevant, np.log1p(-self.prior) + if_not).sum())

    def _expect(self) -> None:
        if_relevant, if_not = self.likelihoods()
        odds = logit(self.prior) + if_relevant - if_not + self.ends.log_odds()
        self.posterior = expit(np.clip(odds, -30, 30))

    def _maximise(self) -> None:
        self._rates_from_posterior()
        self.ends.maximise(self.posterior)
        self.coefficients = _logistic(self.design, self.posterior, self.coefficients)
        self.prior = np.clip(expit(self.design @ self.coefficients), 0.001, 0.95)

    def _rates_from_posterior(self) -> None:
        """Design's "free" estimator: b = (Σ(1-r)c + 6 ctr)/(Σ(1-r)n + 6), a shrunk to ρ b, at least 1.2 b."""
        share = self.posterior[self.evidence.pair]
        clicks, shown = self.evidence.clicks, self.evidence.impressions
        appeal = self.appeal[self.evidence.pair]
        bad_clicks, bad_shown = self._by_cell((1 - share) * clicks), self._by_cell((1 - share) * shown * appeal)
        good_clicks, good_shown = self._by_cell(share * clicks), self._by_cell(share * shown)
        b = (bad_clicks.sum(1) + 6 * self.ctr) / (bad_shown.sum(1) + 6)
        ratio = max(1.5, good_clicks.sum() / max(1e-9, float((good_shown.sum(1) * b).sum())))
        a = (good_clicks.sum(1) + 20 * np.minimum(0.95, ratio * b)) / (good_shown.sum(1) + 20)
        self.irrelevant, self.relevant = np.repeat(b[:, None], CONTEXTS, 1), np.repeat(a[:, None], CONTEXTS, 1)
        if self.contexts:
            weight = self.options.context_shrinkage
            self.irrelevant = (bad_clicks + weight * b[:, None]) / (bad_shown + weight)
            self.relevant = (good_clicks + weight * a[:, None]) / (good_shown + weight)
        for rank, (relevant, irrelevant) in self.fallback.items():
            self.relevant[rank], self.irrelevant[rank] = relevant, irrelevant
        self.irrelevant = np.clip(self.irrelevant, 1e-6, 0.9)
        self.relevant = np.clip(np.maximum(self.relevant, np.minimum(0.97, 1.2 * self.irrelevant)), 1e-6, 0.98)

    def _appeal(self) -> None:
        """How much more than others a document draws clicks where it does not belong: from its other queries alone.

        Clickbait and colluding users show as one document that is clicked under many queries that it does not answer.
        """
        evidence, strength = self.evidence, self.options.document_shrinkage
        expected = self._by_pair(evidence.impressions * self.irrelevant.ravel()[self.cell]) * (1 - self.posterior)
        got = evidence.pair_clicks() * (1 - self.posterior)
        count = len(evidence.documents)
        of = evidence.pair_document
        others_got = sums(of, got, count)[of] - got
        others_expected = sums(of, expected, count)[of] - expected
        self.appeal = np.clip((others_got + strength) / (others_expected + strength), 1.0, 10.0)

    def contexts_matter(self) -> bool:
        """Whether rates by session context explain the clicks better than their number excuses (BIC).

        Where people do not mind what they clicked before, contexts would only add noise to the rates.
        """
        if len(self.evidence.set_start) <= 2:
            return False
        without = self._log_likelihood()
        kept = self.cell, self.relevant, self.irrelevant
        self.set_contexts()
        self._rates_from_posterior()
        cells = int((self._by_cell(self.evidence.impressions) > 0).sum())
        gained = self._log_likelihood() - without
        self.cell, self.relevant, self.irrelevant = kept
        self.contexts = False
        return bool(gained > (cells - self.ranks) * np.log(max(2, self.evidence.pairs)))

    def set_contexts(self) -> None:
        """Split each rank's rows by what was clicked above them, given what is likely relevant by now."""
        likely = self.posterior > self.options.likely
        start = self.evidence.set_start
        hits = np.concatenate([[0], np.cumsum(likely[self.evidence.set_pairs])])
        some = hits[start[1:]] > hits[start[:-1]]
        context = np.where(self.evidence.above == 0, 0, np.where(some[self.evidence.above], 2, 1))
        self.cell = self.row_rank * CONTEXTS + context
        self.contexts = True

    def separability(self) -> tuple[float, bool]:
        """Log likelihood gained over rates that ignore relevance, against what its parameters gain by chance (BIC).

        Relevance must also explain more than that some queries draw more clicks than others, on whatever they show.
        """
        evidence = self.evidence
        clicks, shown = self._by_cell(evidence.clicks), self._by_cell(evidence.impressions)
        rate = np.clip(clicks / np.maximum(shown, 1e-9), 1e-9, 1 - 1e-9).ravel()[self.cell]
        gain = self._log_likelihood() - self._null(rate)
        query, count = evidence.pair_query[evidence.pair], len(evidence.queries)
        lively = (sums(query, evidence.clicks, count) + 3) / (sums(query, evidence.impressions * rate, count) + 3)
        by_query = self._null(np.minimum(rate * lively[query], 0.999)) - self._null(rate) - count / 2
        cells = int((shown > 0).sum())
        penalty = 0.5 * (cells + self.design.shape[1]) * np.log(max(2, evidence.pairs))
        return gain, bool(gain - max(0.0, by_query) > penalty)

    def _null(self, rate: Floats) -> float:
        return float(self.evidence.clicks @ np.log(rate) + self.skips @ np.log1p(-rate))

    def curve(self) -> Curve:
        return Curve(
            self.relevant, self.irrelevant, self._by_cell(self.evidence.impressions), self.ends.good, self.ends.bad
        )


class _Ends:
    """How clicks end (satisfied, in between, bounced), with rates for relevant and irrelevant documents."""

    strength = 10.0

    def __init__(self, evidence: Evidence) -> None:
        between = np.maximum(0, evidence.measured - evidence.satisfied - evidence.bounced)
        self.counts = np.stack([evidence.satisfied, between, evidence.bounced], axis=1)
        self.start_good, self.start_bad = np.array([0.6, 0.25, 0.15]), np.array([0.2, 0.3, 0.5])
        self.good, self.bad = self.start_good, self.start_bad

    def log_odds(self) -> Floats:
        odds: Floats = self.counts @ np.log(self.good / self.bad)
        return odds

    def maximise(self, posterior: Floats) -> None:
        good = posterior @ self.counts + self.strength * self.start_good
        bad = (1 - posterior) @ self.counts + self.strength * self.start_bad
        self.good, self.bad = good / good.sum(), bad / bad.sum()


def _design(evidence: Evidence, features: ScoreFeatures) -> Floats:
    """Intercept and standardised score, gap to the top and log rank; a constant feature becomes zero."""
    rank = evidence.mean_rank() if features.rank is None else features.rank
    columns = np.stack([features.score, features.gap, np.log(rank)], axis=1).astype(np.float64)
    spread = columns.std(axis=0)
    scaled = (columns - columns.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    return np.concatenate([np.ones((len(scaled), 1)), scaled], axis=1)


def _logistic(design: Floats, target: Floats, start: Floats, *, ridge: float = 0.1, steps: int = 5) -> Floats:
    """Newton's method on soft labels, ridge on the intercept too, step halved while the objective falls."""

    def objective(weights: Floats) -> float:
        score = design @ weights
        return float(target @ score - np.logaddexp(0, score).sum() - 0.5 * ridge * weights @ weights)

    weights, best = start, objective(start)
    for _ in range(steps):
        mean = expit(design @ weights)
        gradient = design.T @ (target - mean) - ridge * weights
        hessian = (design * (mean * (1 - mean))[:, None]).T @ design + ridge * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (value := objective(weights + scale * step)) < best and scale > 1e-4:
            scale /= 2
        if value < best:
            break
        improved = value - best
        weights, best = weights + scale * step, value
        if improved < 1e-6 * abs(best):
            break
    return weights
