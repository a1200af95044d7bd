"""Turns posteriors and explicit feedback into labelled, weighted training pairs, with the counts behind each.

It gives no label to documents that were merely not clicked: not clicked is not irrelevant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from flywheel.clicks.evidence import Collected, Explicit, Floats, PairFacts
from flywheel.clicks.model import START_PRIOR, ClickModel

Label = Literal["positive", "ambiguous", "negative"]
Reading = Literal["posterior", "clicks", "nothing"]
"""What a run makes of its clicks. `posterior`: positives are what is likely relevant. `clicks`: every clicked pair is a
weak positive, without any claim. `nothing`: people are not shown to agree, so only votes, carts and purchases count."""
Labels = npt.NDArray[np.str_]

# right four times in five: learned, however unsure all the other pairs are
SURE = 0.8
# a pull from which a document's clicks may come from colluders
SUSPECT = 0.03
# one vote decides for one half-life; after that it only moves the posterior, ever less
VOTE_LASTS = 0.5
COUNTS = ("impressions", "clicks", "satisfied", "bounced", "thumbs_up", "thumbs_down", "carts", "purchases", "users")


@dataclass(frozen=True, slots=True)
class Rules:
    """How posterior and explicit feedback make a label.

    Positives lie above `posterior_threshold`, or above the higher threshold that keeps their mean posterior at
    `expected_precision`: the Bayesian false discovery rate (Newton et al., Biostatistics 2004, eq. 2.2). A document
    that people seem to click wherever they see it (a pull of `SUSPECT` or more) is a positive only above `SURE`.
    A cart or a purchase multiplies the odds of relevance once for each person. Votes, one a person, override the
    clicks: more up than down is a positive of at least `vote_posterior`, more down than up a negative. All of these age
    as clicks do: odds by the power of their weight, and votes that together weigh less than `VOTE_LASTS` decide no
    label any more.
    """

    posterior_threshold: float
    ambiguous_threshold: float
    expected_precision: float
    cart_odds: float = 20.0
    purchase_odds: float = 100.0
    vote_posterior: float = 0.9


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs as columns of one length, ordered by (query key, document).

    `weight` is the pair's weight in the loss; 0 for an ambiguous pair, which is only masked. `prior` and `pull` are the
    click model's: the relevance expected before the pair's clicks, and how suspect the clicks are. `impressions` and
    `clicks` are weighted by caps and age; `facts` are the plain counts. `source` is `explicit` where votes, carts or
    purchases made the label, else `clicks`.
    """

    query_key: tuple[str, ...]
    query: tuple[str, ...]
    doc_id: tuple[str, ...]
    label: tuple[Label, ...]
    weight: Floats
    posterior: Floats
    prior: Floats
    pull: Floats
    impressions: Floats
    clicks: Floats
    source: tuple[str, ...]
    facts: PairFacts

    def __len__(self) -> int:
        return len(self.doc_id)

    def count(self, label: Label) -> int:
        """How many pairs have this label."""
        return self.label.count(label)


def build(collected: Collected, model: ClickModel, rules: Rules, reading: Reading = "posterior") -> Pairs:
    """Label every pair that has evidence worth a label; `model` was fitted on `collected.evidence`.

    A weak positive weighs as its clicks count after age and caps, 1 at most. Without agreement no posterior is above
    the prior of a document that nobody clicked.

    Raises:
        ValueError: the model belongs to other evidence.
    """
    evidence, facts = collected.evidence, collected.facts
    if len(model.posterior) != evidence.pairs or len(facts.clicks) != evidence.pairs:
        raise ValueError(
            f"{len(model.posterior)} posteriors and {evidence.pairs} pairs: fit the model on this evidence"
        )
    told = np.minimum(model.posterior, START_PRIOR) if reading == "nothing" else model.posterior
    least = np.where(model.pull >= SUSPECT, max(SURE, rules.posterior_threshold), threshold(told, rules))
    said = facts.explicit()
    votes = said.up - said.down
    posterior = _with_votes(_with_purchases(told, said, rules), votes, rules)
    votes = np.where(np.abs(votes) < VOTE_LASTS, 0.0, votes)
    clicks = evidence.pair_clicks()
    label = _labels(posterior, votes, least, rules)
    by_clicks = _labels(told, np.zeros_like(votes), least, rules)
    sure = posterior
    if reading == "clicks":
        # what clicks alone would call relevant is what the posterior cannot be trusted with
        spoken = (label == "positive") & (by_clicks != "positive")
        label = np.where((label == "positive") & ~spoken, "ambiguous", label)
        by_clicks = np.where(clicks > 0, "positive", "ambiguous")
        label = np.where((clicks > 0) & (label != "negative"), "positive", label)
        sure = np.where(spoken, posterior, np.minimum(1.0, clicks))
    # a negative of one vote counts a half; each further vote halves what is missing to one
    weight = np.select([label == "positive", label == "negative"], [sure, 1 - 0.5 ** np.abs(votes)], 0.0)
    kept = np.flatnonzero(label != "")
    queries, documents = evidence.pair_query[kept], evidence.pair_document[kept]
    return Pairs(
        query_key=tuple(evidence.queries[i] for i in queries),
        query=tuple(collected.texts[i] for i in queries),
        doc_id=tuple(evidence.documents[i] for i in documents),
        label=tuple(label[kept].tolist()),
        weight=weight[kept],
        posterior=posterior[kept],
        prior=model.prior[kept],
        pull=model.pull[kept],
        impressions=evidence.pair_impressions()[kept],
        clicks=clicks[kept],
        source=tuple(np.where(label == by_clicks, "clicks", "explicit")[kept].tolist()),
        facts=_chosen(facts, kept),
    )


def threshold(posterior: Floats, rules: Rules) -> float:
    """The lowest threshold, at least the rules', above which the mean posterior reaches the expected precision.

    It is never above `SURE`.
    """
    likely = np.sort(posterior[posterior > rules.posterior_threshold])[::-1]
    good = np.cumsum(likely) >= rules.expected_precision * np.arange(1, len(likely) + 1)
    if good.all():
        return rules.posterior_threshold
    # the highest posterior that is left out; ties with it are left out too
    return max(rules.posterior_threshold, min(SURE, float(likely[int(good.sum())])))


def _with_purchases(posterior: Floats, said: Explicit, rules: Rules) -> Floats:
    """Each person's purchase, or else cart, adds its log odds, as an independent witness."""
    carts_alone = np.maximum(0, said.carts - said.purchases)
    more = said.purchases * np.log(rules.purchase_odds) + carts_alone * np.log(rules.cart_odds)
    odds = logit(np.clip(posterior, 1e-9, 1 - 1e-9)) + more
    return np.asarray(np.where(more > 0, expit(odds), posterior), dtype=np.float64)


def _with_votes(posterior: Floats, votes: Floats, rules: Rules) -> Floats:
    """At least `vote_posterior`, or at most its complement, by votes of weight 1; by less a part of the way (logit)."""
    said = np.where(votes > 0, np.maximum(posterior, rules.vote_posterior), posterior)
    said = np.where(votes < 0, np.minimum(posterior, 1 - rules.vote_posterior), said)
    share = np.minimum(1.0, np.abs(votes))
    ours, theirs = (logit(np.clip(chance, 1e-9, 1 - 1e-9)) for chance in (posterior, said))
    moved = expit((1 - share) * ours + share * theirs)
    return np.asarray(np.select([share >= 1, share > 0], [said, moved], posterior), dtype=np.float64)


def _labels(posterior: Floats, votes: Floats, least: Floats, rules: Rules) -> Labels:
    conditions = [votes < 0, (votes > 0) | (posterior > least), posterior > rules.ambiguous_threshold]
    return np.select(conditions, ["negative", "positive", "ambiguous"], "")


def _chosen(facts: PairFacts, kept: npt.NDArray[np.intp]) -> PairFacts:
    columns = {name: getattr(facts, name)[kept] for name in (*COUNTS, "first_ms", "last_ms")}
    return PairFacts(**columns, model_versions=tuple(facts.model_versions[i] for i in kept))
