"""How far what people ask has moved: a distance between two distributions, pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import distance


def jensen_shannon(counts: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    """Jensen-Shannon distance, base 2, of two count vectors over the same keys: 0 the same, 1 nothing in common.

    The square root of Lin (1991), "Divergence measures based on the Shannon entropy", eq. 4.1; a metric by Endres &
    Schindelin (2003).

    Raises:
        ValueError: the vectors differ in length, or one of them counts nothing.
    """
    if len(counts) != len(others) or not counts.sum() or not others.sum():
        raise ValueError("two vectors of counts over the same keys are compared, and each must count something")
    return float(distance.jensenshannon(counts, others, base=2))
