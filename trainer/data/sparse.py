"""A ragged table of document rows: what each query is taught, or what its softmax leaves out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Sparse:
    """A ragged table: entry i has the document rows `rows[start[i]:start[i + 1]]` and a value for each."""

    def __init__(
        self, start: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]
    ) -> None:
        self.start, self.rows, self.values = start, rows, values

    @classmethod
    def build(
        cls, entry: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32], *, entries: int
    ) -> Sparse:
        """From unordered triples (entry, row, value)."""
        order = np.lexsort((rows, entry))
        start = np.r_[0, np.cumsum(np.bincount(entry, minlength=entries))]
        return cls(start.astype(np.int64), rows[order].astype(np.int64), values[order].astype(np.float32))

    def take(self, entries: npt.NDArray[np.int64]) -> Sparse:
        """The same table for these entries only, in this order."""
        size = self.start[entries + 1] - self.start[entries]
        start = np.r_[0, np.cumsum(size)].astype(np.int64)
        at = np.repeat(self.start[entries] - start[:-1], size) + np.arange(start[-1])
        return Sparse(start, self.rows[at], self.values[at])

    def of(self, entry: int) -> npt.NDArray[np.int64]:
        """The document rows of one entry."""
        return self.rows[self.start[entry] : self.start[entry + 1]]

    @property
    def entry(self) -> npt.NDArray[np.int64]:
        """The entry of each row of `rows`."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
