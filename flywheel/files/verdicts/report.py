"""What a pipeline is told of a verdict: checks by suite, a headline with its reasons, and a table of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim that holds, does not hold, or cannot be decided; `message` has the figures."""

    name: str
    outcome: Outcome
    message: str


@dataclass(frozen=True, slots=True)
class Suite:
    """The checks of one collection, or of all together."""

    name: str
    checks: tuple[Claim, ...]

    def count(self, outcome: Outcome) -> int:
        """How many of its checks came out so."""
        return sum(check.outcome == outcome for check in self.checks)


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """A verdict. `subject` is the path of what was judged, relative to the working folder where it lies within."""

    title: str
    subject: str
    outcome: Outcome
    headline: str
    reasons: tuple[str, ...]
    suites: tuple[Suite, ...]
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    seconds: float
    now: str
    """When it was judged, as YYYY-MM-DDTHH:MM:SS in UTC."""
