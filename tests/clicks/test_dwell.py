from __future__ import annotations

import numpy as np
import pytest

from flywheel.clicks.dwell import BINS, LONGEST_MS, Threshold, thresholds

SETTINGS = {"bounce_ms": 5_000, "satisfied_ms": 30_000}


def histogram(dwell_ms: np.ndarray) -> np.ndarray:
    return np.bincount(np.clip(4 * np.log2(dwell_ms), 0, BINS - 1).astype(int), minlength=BINS)


def dwells(count: int, short_ms: float, long_ms: float, seed: int = 0) -> np.ndarray:
    """Half of them about `short_ms`, half about `long_ms`, a factor of 1.6 around."""
    rng = np.random.default_rng(seed)
    typical = np.where(rng.random(count) < 0.5, short_ms, long_ms)
    return histogram(typical * np.exp(0.5 * rng.standard_normal(count)))


def only(found: tuple[Threshold, ...]) -> Threshold:
    assert len(found) == 1
    return found[0]


def test_two_heaps_are_told_apart_where_bayes_rule_says() -> None:
    """For two equal log-normals of one spread the thresholds lie symmetric about their middle, at odds of nine."""
    found = only(thresholds({"all": dwells(40_000, 1_000, 16_000)}, **SETTINGS))
    off = np.log(9) * 0.5**2 / np.log(16)  # from log p(long)/p(short) = (x - middle) (difference of means) / variance
    assert found.source == "segment"
    assert found.bounce_ms == pytest.approx(4_000 * np.exp(-off), rel=0.1)
    assert found.satisfied_ms == pytest.approx(4_000 * np.exp(off), rel=0.1)


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (dwells(900, 1_000, 16_000), "too few"),
        (dwells(40_000, 5_000, 5_000), "one heap"),
        (dwells(40_000, 5_000, 8_000), "one heap, seen double"),
        (np.zeros(BINS, dtype=np.int64), "none"),
    ],
)
def test_the_settings_hold_where_dwells_do_not_fall_into_two_heaps(counts: np.ndarray, why: str) -> None:
    """Too few dwells, or a single heap, change nothing."""
    found = only(thresholds({"all": counts}, **SETTINGS))
    assert (found.bounce_ms, found.satisfied_ms, found.source) == (5_000, 30_000, "settings"), why


@pytest.mark.parametrize("count", [120, 900, 40_000])
def test_quarters_hold_where_nobody_set_limits(count: int) -> None:
    """Without two heaps and without settings a quarter bounces and a quarter satisfies, whatever the unit of time."""
    for typical in (5_000, 400_000):
        counts = dwells(count, typical, typical, seed=count)
        found = only(thresholds({"all": counts}, **SETTINGS, insisted=False))
        edges = 2 ** (np.arange(BINS) / 4)
        assert found.source == "quarters"
        assert counts[edges < found.bounce_ms - 1].sum() / count == pytest.approx(0.25, abs=0.16)
        assert counts[edges >= found.satisfied_ms - 1].sum() / count == pytest.approx(0.25, abs=0.16)
        assert found.bounce_ms <= found.satisfied_ms


def test_a_handful_of_dwells_says_nothing() -> None:
    """Below 100 dwells no dwell bounces or satisfies but by the settings, where those speak of dwells at all."""
    found = only(thresholds({"all": dwells(80, 1_000, 16_000)}))
    assert (found.bounce_ms, found.satisfied_ms, found.source) == (0, LONGEST_MS, "none")
    given = only(thresholds({"all": dwells(80, 1_000, 16_000)}, **SETTINGS, insisted=False))
    assert (given.bounce_ms, given.satisfied_ms, given.source) == (5_000, 30_000, "settings")


def test_most_clicks_of_one_length_satisfy_together() -> None:
    """Where over three quarters are equally long, those satisfy and the shorter ones bounce."""
    counts = np.zeros(BINS, dtype=np.int64)
    counts[[20, 60]] = 30, 170
    found = only(thresholds({"all": counts}))
    assert (found.bounce_ms, found.satisfied_ms) == (2**15, 2**15)


def test_a_segment_has_its_own_thresholds_as_far_as_it_has_dwells() -> None:
    """Long documents are read longer; a segment of 50 dwells takes everyone's, one of 400 lies in between."""
    many = {"long": dwells(20_000, 4_000, 64_000, 1), "short": dwells(20_000, 1_000, 16_000, 2)}
    found = {one.segment: one for one in thresholds(many, **SETTINGS)}
    assert found["long"].satisfied_ms > 2.5 * found["short"].satisfied_ms
    some = many | {"few": dwells(50, 60, 90, 3), "some": dwells(400, 500, 8_000, 4)}
    found = {one.segment: one for one in thresholds(some, **SETTINGS)}
    alone = only(thresholds({"some": dwells(20_000, 500, 8_000, 4)}, **SETTINGS))
    assert (found["few"].source, found["some"].source) == ("all", "segment")
    assert alone.satisfied_ms < found["some"].satisfied_ms < found["few"].satisfied_ms
