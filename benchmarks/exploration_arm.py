"""Exploration in `learning.py`: the product's own planner and explorer between the champion's pages and the people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.app import now_ms
from flywheel.daemon.local import Installation
from flywheel.exploration.planner import Planner


class Arm:
    """Plans anew `parts` times a round, as the daemon does every few minutes, and counts what it took and what it cost.

    `clicks_without` are those that the same people, with the same luck, make on the champion's pages as they are.
    """

    def __init__(self, installation: Installation, parts: int = 4) -> None:
        at = installation
        self.parts = parts
        self.planner = Planner(at.config, at.store, at.registry, at.indexers, at.learning.words)
        self._store = at.store
        self.clicks = self.clicks_without = 0
        self._explored = self._slots = 0

    def plan(self) -> None:
        """What the daemon does every `exploration.refresh_minutes`."""
        self.planner.replan(self._store.feedback.latest_ms(), now_ms())

    def place(
        self, texts: Sequence[str], pages: Sequence[Sequence[str]], names: Sequence[str]
    ) -> tuple[list[list[str]], list[dict[str, Any]]]:
        """The pages as they are shown, and the attributes that serving logs with each."""
        shown: list[list[str]] = []
        notes: list[dict[str, Any]] = []
        for text, page, name in zip(texts, pages, names, strict=True):
            placed = self.planner.explorer.place(text, page, page=name)
            shown.append(list(page) if placed is None else list(placed.hits))
            notes.append(
                {} if placed is None else {"propensities": placed.propensities, "explored": placed.explored or None}
            )
            self._explored += 0 if placed is None else len(placed.explored)
            self._slots += len(page)
        return shown, notes

    def report(self, coverage: float) -> dict[str, float]:
        """What exploration took, cost and reached."""
        return {
            "ctr_given_up": round(1 - self.clicks / max(1, self.clicks_without), 4),
            "share_of_slots": round(self._explored / max(1, self._slots), 4),
            "coverage": round(coverage, 4),
        }
