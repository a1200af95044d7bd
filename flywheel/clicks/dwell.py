"""When a dwell satisfies and when it is a bounce: thresholds by segment, from the dwells themselves.

It refuses to split dwells that form one heap: then the longest quarter and the shortest one are named, and whether they
mean anything is for `flywheel.clicks.ends` to find out. The caller says what a segment is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Source = Literal["segment", "all", "settings", "quarters", "none"]

BINS = 108
PER_DOUBLING = 4
"""Bin i counts dwells from 2 ** (i / 4) to 2 ** ((i + 1) / 4) ms; the last ends at 37 hours."""
LONGEST_MS = round(2 ** (BINS / PER_DOUBLING))
_CENTRES = (np.arange(BINS) + 0.5) * np.log(2) / PER_DOUBLING
MIN_DWELLS, MIN_IN_SEGMENT, SHRINKAGE = 1_000, 200, 300.0
MIN_FOR_QUARTERS = 100


@dataclass(frozen=True, slots=True)
class Threshold:
    """The rule of one segment: a dwell below `bounce_ms` is a bounce, one of `satisfied_ms` or more satisfies.

    `source`: the segment's own dwells, or those of all segments. Where dwells do not form two heaps: the settings where
    somebody set them, else the outer quarters, else none.
    """

    segment: str
    bounce_ms: int
    satisfied_ms: int
    dwells: int
    source: Source


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Two normal distributions of log dwell, the shorter first: weights, means and standard deviations, (2,) each."""

    weight: Floats
    mean: Floats
    spread: Floats

    def densities(self) -> Floats:
        """The density at each bin's centre under each part: (2, bins)."""
        distance = (_CENTRES - self.mean[:, None]) / self.spread[:, None]
        density: Floats = (
            self.weight[:, None] * np.exp(-0.5 * distance**2) / (self.spread[:, None] * np.sqrt(2 * np.pi))
        )
        return density


def thresholds(
    counts: Mapping[str, Counts],
    *,
    bounce_ms: int | None = None,
    satisfied_ms: int | None = None,
    insisted: bool = True,
) -> tuple[Threshold, ...]:
    """Thresholds of each segment; `counts` holds its histogram of dwells, (BINS,).

    A mixture of two log-normals (dwell by kind of click, after Kim et al., WSDM 2014) is fitted to all dwells. Each
    segment then has its own fit, on its dwells and 300 more spread as the whole. A dwell is a bounce where it belongs
    to the longer part with probability below 0.1, and satisfies from 0.9. A segment of fewer than 200 dwells takes the
    thresholds of all.

    With fewer than 1,000 dwells, or where the parts do not stand apart (Ashman's D of 2, and the Bayesian information
    criterion), both limits are those given, if somebody `insisted` on them. Else the shortest quarter of the dwells
    bounces and the longest satisfies. Fewer than 100 dwells have no quarters: those given count, or none.
    """
    total = sum(counts.values(), start=np.zeros(BINS, dtype=np.int64)).astype(np.float64)
    whole = _fitted(total, None)
    split = total.sum() >= MIN_DWELLS and _stands_apart(total, whole)
    few = total.sum() < MIN_FOR_QUARTERS
    by_segment = []
    for segment, own in sorted(counts.items()):
        dwells = int(own.sum())
        alone = dwells >= MIN_IN_SEGMENT
        limits: tuple[int, int]
        source: Source
        if split and alone:
            limits, source = _crossings(_fitted(own.astype(np.float64), whole)), "segment"
        elif split:
            limits, source = _crossings(whole), "all"
        elif bounce_ms is not None and satisfied_ms is not None and (insisted or few):
            limits, source = (bounce_ms, satisfied_ms), "settings"
        elif few:
            limits, source = (0, LONGEST_MS), "none"
        else:
            limits, source = _quarters(own if alone else total), "quarters"
        by_segment.append(Threshold(segment, *limits, dwells, source))
    return tuple(by_segment)


def _quarters(counts: Counts | Floats) -> tuple[int, int]:
    """The upper edge of the bin in which the first quarter ends, and the lower edge of that in which the last begins.

    The first never lies above the second.
    """
    whole = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(whole, share)) for share in (0.25, 0.75))
    satisfied = round(2 ** (high / PER_DOUBLING))
    return min(round(2 ** ((low + 1) / PER_DOUBLING)), satisfied), satisfied


def _fitted(counts: Floats, prior: _Mixture | None, steps: int = 200) -> _Mixture:
    """EM over a histogram; `prior` counts as `SHRINKAGE` more dwells that follow it."""
    total = max(1.0, float(counts.sum()))
    middle = float(counts @ _CENTRES) / total
    spread = max(0.3, float(np.sqrt(counts @ (_CENTRES - middle) ** 2 / total)))
    mixture = prior or _Mixture(np.array([0.5, 0.5]), middle + spread * np.array([-1.0, 1.0]), np.full(2, spread / 2))
    for _ in range(steps):
        density = mixture.densities()
        share = counts * density / np.maximum(density.sum(axis=0), 1e-300)
        number, first = share.sum(axis=1), share @ _CENTRES
        second = share @ _CENTRES**2
        if prior is not None:
            more = SHRINKAGE * prior.weight
            number, first = number + more, first + more * prior.mean
            second = second + more * (prior.spread**2 + prior.mean**2)
        number = np.maximum(number, 1e-6)
        mean = first / number
        # about a bin (0.17 in log ms) at least: else a part could shrink onto a single bin
        spreads = np.sqrt(np.maximum(second / number - mean**2, 0.15**2))
        mixture = _Mixture(number / number.sum(), mean, spreads)
    order = np.argsort(mixture.mean)
    return _Mixture(mixture.weight[order], mixture.mean[order], mixture.spread[order])


def _stands_apart(counts: Floats, mixture: _Mixture) -> bool:
    """Whether two parts are distinct: Ashman, Bird & Zepf, Astronomical Journal 1994, eq. 4, and BIC.

    The smaller part must hold at least 5 % of the dwells.
    """
    total = float(counts.sum())
    middle = float(counts @ _CENTRES) / total
    spread = max(0.15, float(np.sqrt(counts @ (_CENTRES - middle) ** 2 / total)))
    one = _Mixture(np.array([1.0]), np.array([middle]), np.array([spread])).densities()[0]
    gain = float(
        counts @ (np.log(np.maximum(mixture.densities().sum(axis=0), 1e-300)) - np.log(np.maximum(one, 1e-300)))
    )
    apart = abs(mixture.mean[1] - mixture.mean[0]) * np.sqrt(2 / (mixture.spread**2).sum())
    # BIC: the second part has three parameters more
    return bool(apart > 2 and mixture.weight.min() >= 0.05 and gain > 1.5 * np.log(total))


def _crossings(mixture: _Mixture) -> tuple[int, int]:
    """Dwells, in ms, at which the longer part's probability passes 0.1 and 0.9 on the way from mean to mean."""
    grid = np.linspace(mixture.mean[0], mixture.mean[1], 512)
    density = (
        mixture.weight[:, None]
        / mixture.spread[:, None]
        * np.exp(-0.5 * ((grid - mixture.mean[:, None]) / mixture.spread[:, None]) ** 2)
    )
    longer = density[1] / density.sum(axis=0)
    low, high = (grid[min(len(grid) - 1, int((longer < level).sum()))] for level in (0.1, 0.9))
    return round(float(np.exp(low))), round(float(np.exp(high)))
