"""What of the documents lies beyond the model's window: an encoder reads their first tokens and cuts off the rest.

It measures a sample and changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flywheel.retrieval.encoder import Encoder
from flywheel.store.feedback.documents import Documents

SAMPLE = 500
"""Documents that are looked at; with a share of a half its 95 % interval is then 4 points to either side."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Shares in [0, 1] of documents and of all their tokens that are cut off, and of titles that do not stay whole.

    `window`: tokens that are read, special ones and the prompt included; 0: all. `sampled` of `documents` were counted.
    """

    window: int
    documents: int
    sampled: int
    longer: float = 0.0
    tokens: float = 0.0
    titles: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The same, as plain values."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The same in words, with the sample where it was one."""
        if not self.window:
            return "the model reads documents whole"
        of = f"a sample of {self.sampled:,}" if self.sampled < self.documents else "all"
        longer, tokens = f"{100 * self.longer:.0f} % of them", f"{100 * self.tokens:.0f} % of all tokens"
        cut = f"{longer} are longer, and {tokens} are cut off" if self.longer else "none is longer"
        titles = f"; {100 * self.titles:.0f} % of titles do not stay whole" if self.titles else ""
        return f"the model reads {self.window} tokens of a document: {cut}{titles} (counted on {of})"


def beyond_window(encoder: Encoder, documents: Documents, sample: int = SAMPLE) -> Beyond:
    """Count the tokens of a sample of documents, the same one each time while the collection stays.

    The title stands first in what is encoded, so that the text's end is what is cut, and a title stays whole unless it
    alone is longer than the window. A model that keeps the end of a text instead cuts the title of each longer one.
    """
    window, count = encoder.max_seq_length, documents.count()
    found = documents.sample(sample)
    if not window or not found:
        return Beyond(window, count, len(found))
    lengths = encoder.token_counts([content for _, content in found])
    titles = encoder.token_counts([title for title, _ in found])
    longer = lengths > window
    cut = longer if encoder.keeps_the_end else titles > window
    lost = np.maximum(lengths - window, 0).sum() / max(1, lengths.sum())
    has_title = np.array([bool(title.strip()) for title, _ in found])
    share = float((cut & has_title).sum() / max(1, has_title.sum()))
    return Beyond(window, count, len(found), float(longer.mean()), float(lost), share)
