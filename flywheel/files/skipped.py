"""Counts the rows of a file: how many were read, and of those not used how many, why and where."""

from __future__ import annotations

from collections import Counter, defaultdict

_PLACES = 20  # a reason names its first rows; ten thousand line numbers help nobody


class ImportFailed(ValueError):  # noqa: N818 - reads as what happened
    """A file that cannot be read at all. The message names it, the line, and what was expected."""


class ImportCount:
    """Rows read, and why some were skipped.

    Attributes:
        place: file and line (or row) of the row that was read last.
        places: the first twenty places of each reason.
    """

    def __init__(self) -> None:
        self.read = 0
        self.place = ""
        self.reasons: Counter[str] = Counter()
        self.places: defaultdict[str, list[str]] = defaultdict(list)

    def skip(self, reason: str, place: str | None = None) -> None:
        """Count one row that brings nothing; without a place it is the row that was read last."""
        self.reasons[reason] += 1
        self.mark(reason, self.place if place is None else place)

    def mark(self, reason: str, place: str) -> None:
        """Name a place of a reason that is counted elsewhere."""
        if place and len(self.places[reason]) < _PLACES:
            self.places[reason].append(place)
