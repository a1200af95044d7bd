"""How hard each probe stays: hardest where no query that is taught comes near.

A probe stands for queries that nobody asked yet. Held as hard as that deserves everywhere, probes about what people do
ask would hold learning itself back; held as softly as learning bears, a domain that nobody asked about yet drifts
while another is learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.fitting.ranking import nearest

Vectors = npt.NDArray[np.float32]
REACH = 100  # documents that a taught query comes near: what it ranks highest
TAUGHT = 2_000  # queries that are looked at, evenly spread over all that are taught


def forces(
    probes: Vectors, taught: Vectors, documents: Vectors, *, near: float, far: float, device: str
) -> npt.NDArray[np.float32]:
    """Weights (n,) of `probes` (n, d): `near` for one whose document stands among the REACH highest of any of the
    `taught` queries (m, d), else `far`. Its document is the one of `documents` (k, d) that it is nearest to."""
    if near == far or not len(taught):
        return np.full(len(probes), far, np.float32)
    asked = np.zeros(len(documents), bool)
    asked[nearest(taught, documents, min(REACH, len(documents)), device=device)] = True
    own = nearest(probes, documents, 1, device=device)[:, 0]
    return np.where(asked[own], near, far).astype(np.float32)


def spread(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At most TAUGHT of the rows, evenly spread over them."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), TAUGHT)).round().astype(np.int64)
    return rows[places]
