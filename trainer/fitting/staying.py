"""What keeps its ranking while both towers move: replayed queries, anchors, and probes far from all that is learned.

Where documents move too, no vector can stay where it was. What people notice can: the order of the documents for a
query. So the softmax over a step's documents stays near the champion's (learning without forgetting, Li and Hoiem 2016;
relations instead of vectors: Park et al., Relational knowledge distillation, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flywheel.retrieval.encoder import Encoder
from trainer.data.dataset import Snapshot
from trainer.fitting.losses import distil
from trainer.fitting.probes import REACH, spread
from trainer.fitting.ranking import nearest

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
PROBE_WORDS = 16  # about a title


@dataclass(frozen=True)
class Still:
    """The champion's vectors: (n, d) of a plan's queries, (N, d) of all documents; and which queries stay with them.

    `own`: the document of each probe, by its query's row.
    """

    queries: Vectors
    documents: Vectors
    stays: npt.NDArray[np.bool_]
    own: Mapping[int, int]

    def loss(self, queries: Rows, documents: Rows, cosines: torch.Tensor, *, scale: float) -> torch.Tensor | None:
        """Mean divergence of what these rankings are, cosines (q, m), from what they were; None where none stays.

        With a scale of 20 and a hundred documents it is 0.5 to 0.7 of the squared distance by which a query moved
        towards a document (SciFact's abstracts), so trainer.distil counts for either.
        """
        kept = np.flatnonzero(self.stays[queries])
        if not len(kept):
            return None
        was = torch.from_numpy(self.queries[queries[kept]] @ self.documents[documents].T).to(cosines)
        now = cosines[torch.from_numpy(kept).to(cosines.device)]
        return distil(scale * now, scale * was, torch.ones_like(was, dtype=torch.bool), kind="kl")


class Champion:
    """The champion's vectors of queries, each text encoded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._known = encoder, dict[str, npt.NDArray[np.float32]]()

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """(n, d) of these texts."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known |= dict(zip(missing, self._encoder.encode_queries(missing), strict=True))
        return np.stack([self._known[text] for text in texts])


def far_probes(snapshot: Snapshot, champion: Champion, *, most: int, device: str) -> dict[str, int]:
    """Probes by text, with their documents' rows: the first words of at most `most` documents, drawn by the seed, that
    no query of the snapshot's positives has among its REACH highest.

    Near ones are left out: where people ask and click, the documents beside the clicked ones should move with them.
    """
    pairs = snapshot.pairs
    taught = sorted(
        {row["query"] for row in pairs.select(["query", "label"]).to_pylist() if row["label"] == "positive"}
    )
    if not most or not taught:
        return {}
    asked = champion.vectors([taught[row] for row in spread(np.arange(len(taught)))])
    count = len(snapshot.doc_ids)
    reached = np.unique(nearest(asked, snapshot.vectors, min(REACH, count), device=device))
    far = np.setdiff1d(np.arange(count), reached)
    drawn = np.random.default_rng((snapshot.header.seed, count)).permutation(far)[:most]
    texts = {row: " ".join(snapshot.texts[snapshot.doc_ids[row]].split()[:PROBE_WORDS]) for row in drawn.tolist()}
    return {text: row for row, text in texts.items() if text and text not in set(taught)}
