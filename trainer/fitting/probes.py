"""Decides how hard each probe is held in place: hardest where no query that is taught comes near.

A probe stands for queries that nobody asked yet. If all probes were held hard, those about what people do ask would
hold learning back. If all were held softly, a domain that nobody asked about yet would drift while another is learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.fitting.ranking import nearest

Vectors = npt.NDArray[np.float32]
REACH = 100  # a taught query comes near the documents that it ranks highest, this many
TAUGHT = 2_000  # taught queries that are compared, evenly spread over all of them


def forces(
    probes: Vectors, taught: Vectors, documents: Vectors, *, near: float, far: float, device: str
) -> npt.NDArray[np.float32]:
    """Weights (n,) of `probes` (n, d): `near` if the probe's document is among the REACH highest of any of the `taught`
    queries (m, d), else `far`. A probe's document is the one of `documents` (k, d) nearest to it."""
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
