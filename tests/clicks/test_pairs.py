from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.clicks.evidence import Collected, Evidence, Explicit, PairFacts
from flywheel.clicks.model import ClickModel, Curve
from flywheel.clicks.pairs import COUNTS, Pairs, Rules, build, threshold
from tests import defaults

NONE = np.zeros((1, 3))
CURVE = Curve(NONE, NONE, NONE, np.ones(3) / 3, np.ones(3) / 3)


def made(posterior: list[float], pull: float = 0.0, rules: Rules | None = None, **counts: list[int]) -> Pairs:
    """Pairs of one query with documents d0, d1, ...; `pull` is the last one's, counts not named are zero."""
    n = len(posterior)
    index = np.arange(n, dtype=np.int32)
    ones, zeros = np.ones(n), np.zeros(n)
    evidence = Evidence(
        ("shoes",), tuple(f"d{i}" for i in range(n)), np.zeros(n, dtype=np.int32), index, zeros, zeros, zeros,
        index, index + 1, np.zeros(n, dtype=np.int32), 10 * ones, ones, np.zeros(2, dtype=np.int64), index[:0],
    )  # fmt: skip
    columns = {name: np.array(counts.get(name, [0] * n), dtype=np.int64) for name in COUNTS}
    facts = PairFacts(**columns, first_ms=index.astype(np.int64), last_ms=index + 9, model_versions=(("v0",),) * n)
    relevance = np.array(posterior)
    model = ClickModel(CURVE, relevance, relevance / 2, np.append(zeros[1:], pull), 9, True, 99.0, True)
    return build(Collected(evidence, facts, ("Shoes!",), 0), model, rules or defaults.rules())


def test_labels_follow_the_two_thresholds_and_the_rest_get_none() -> None:
    """Above 0.5 positive, above 0.05 ambiguous (weight 0), below neither: not clicked is not irrelevant."""
    pairs = made([0.9, 0.3, 0.01])
    assert list(zip(pairs.doc_id, pairs.label, strict=True)) == [("d0", "positive"), ("d1", "ambiguous")]
    assert pairs.weight.tolist() == [0.9, 0.0]
    assert set(pairs.source) == {"clicks"}


def test_the_threshold_rises_until_positives_are_expected_to_be_right() -> None:
    """Posteriors that promise too little precision together are cut from the lowest; sure ones are left alone."""
    posterior = np.array([0.99, 0.98, 0.97, 0.96, 0.6, 0.55, 0.2])
    cut = threshold(posterior, defaults.rules(expected_precision=0.95))
    assert cut == 0.6
    assert posterior[posterior > cut].mean() >= 0.95 > posterior[posterior >= cut].mean()
    assert threshold(posterior, defaults.rules(expected_precision=0.8)) == 0.5
    assert made([0.99, 0.98, 0.97, 0.96, 0.6]).label[-1] == "ambiguous"
    assert made([0.82, 0.7]).label == ("positive", "ambiguous")


def test_a_document_that_is_clicked_wherever_it_stands_must_be_surer() -> None:
    """Where its other queries speak of colluders, 0.7 is too little for a positive, 0.85 or a vote enough."""
    sure = [0.99] * 10
    assert made([*sure, 0.7], pull=0.05).label[-1] == "ambiguous"
    assert made([*sure, 0.7], pull=0.01).label[-1] == "positive"
    assert made([*sure, 0.85], pull=0.05).label[-1] == "positive"
    assert made([*sure, 0.02], pull=0.05, thumbs_up=[0] * 10 + [1]).label[-1] == "positive"


def test_votes_override_the_clicks() -> None:
    """A thumb up makes a positive of what clicks deny, a thumb down a negative of what they favour."""
    pairs = made([0.01, 0.99, 0.99], thumbs_up=[1, 0, 1], thumbs_down=[0, 1, 1])
    assert pairs.label == ("positive", "negative", "positive")
    assert pairs.source == ("explicit", "explicit", "clicks")
    assert pairs.posterior[1] <= 0.1


def test_a_thumb_up_is_a_positive_whatever_the_threshold() -> None:
    """People's own word is not held against a threshold for clicks."""
    given = made([0.99, 0.3], rules=defaults.rules(posterior_threshold=0.95), thumbs_up=[0, 1])
    assert given.label == ("positive", "positive")


def test_only_a_thumb_down_makes_a_negative() -> None:
    """No posterior, however low, makes a negative by itself."""
    assert made([1e-9, 1e-6, 0.04]).label == ()


def test_purchases_weigh_more_than_carts_and_carts_more_than_nothing() -> None:
    """One person's cart raises the odds 20 times, a purchase 100 times, and the two of one person are not added."""
    pairs = made([0.1, 0.1, 0.1, 0.1], carts=[0, 1, 0, 1], purchases=[0, 0, 1, 1])
    odds = pairs.posterior / (1 - pairs.posterior) / (0.1 / 0.9)
    assert odds == pytest.approx([1, 20, 100, 100])
    assert pairs.label == ("ambiguous", "positive", "positive", "positive")


def test_each_pair_carries_what_it_rests_on() -> None:
    """Counts, window, versions, text, prior and pull stay with the pair after unlabelled ones are left out."""
    pairs = made([0.01, 0.9], 0.01, clicks=[4, 7], users=[2, 3])
    assert (pairs.query_key, pairs.query, pairs.doc_id) == (("shoes",), ("Shoes!",), ("d1",))
    assert (pairs.facts.clicks.tolist(), pairs.facts.users.tolist()) == ([7], [3])
    assert (pairs.facts.first_ms.tolist(), pairs.facts.model_versions) == ([1], (("v0",),))
    assert (pairs.impressions.tolist(), pairs.prior.tolist(), pairs.pull.tolist()) == ([10.0], [0.45], [0.01])


def test_a_model_of_other_evidence_is_refused() -> None:
    """Posteriors that do not match the pairs are an error, not a misalignment."""
    pairs = made([0.9])
    model = ClickModel(CURVE, np.ones(2), np.ones(2), np.ones(2), 1, True, 1.0, True)
    empty = np.zeros(0, dtype=np.int32)
    floats = np.zeros(0)
    evidence = Evidence(
        (), (), empty, empty, floats, floats, floats, empty, empty, empty, floats, floats, np.zeros(2, np.int64), empty
    )
    with pytest.raises(ValueError, match="fit the model on this evidence"):
        build(Collected(evidence, pairs.facts, (), 0), model, defaults.rules())


def aged(posterior: float, **weights: float) -> Pairs:
    """One pair whose votes, carts and purchases weigh this much by now, though each was one."""
    zero, index = np.zeros(1), np.zeros(1, dtype=np.int32)
    evidence = Evidence(
        ("shoes",), ("d0",), index, index, zero, zero, zero, index, index + 1, index, zero + 10, zero + 1,
        np.zeros(2, dtype=np.int64), index[:0],
    )  # fmt: skip
    ones = {name: np.ones(1, dtype=np.int64) for name in (*COUNTS, "first_ms", "last_ms")}
    left = Explicit(*(np.array([weights.get(name, 0.0)]) for name in ("up", "down", "carts", "purchases")))
    model = ClickModel(CURVE, np.array([posterior]), np.array([posterior]), zero, 9, True, 99.0, True)
    facts = PairFacts(**ones, model_versions=(("v0",),), aged=left)
    return build(Collected(evidence, facts, ("Shoes!",), 0), model, defaults.rules())


@given(
    posterior=st.floats(0.06, 0.94),
    fresh=st.floats(0.01, 1.0),
    faded=st.floats(0.0, 1.0),
    act=st.sampled_from(["up", "down", "carts", "purchases"]),
)
def test_what_people_said_moves_the_posterior_less_the_older_it_is(
    posterior: float, fresh: float, faded: float, act: str
) -> None:
    """Votes, carts and purchases only ever lose weight, and with none left the clicks are alone."""
    older = aged(posterior, **{act: fresh * faded}).posterior[0]
    newer = aged(posterior, **{act: fresh}).posterior[0]
    assert abs(older - posterior) <= abs(newer - posterior) + 1e-9
    assert (newer - posterior) * (1 if act != "down" else -1) >= -1e-9
    assert aged(posterior, **{act: 0.0}).posterior[0] == pytest.approx(posterior)


def test_a_vote_decides_for_a_half_life() -> None:
    """A vote in its first half-life makes the label, later the clicks do; what is left still moves the posterior."""
    assert aged(0.06, up=0.51).label == ("positive",)
    assert aged(0.06, up=0.49).label == ("ambiguous",)
    assert aged(0.99, down=0.51).label == ("negative",)
    assert aged(0.99, down=0.49).label == ("positive",)
    assert aged(0.99, down=0.6).weight[0] < aged(0.99, down=0.9).weight[0] < 0.5
