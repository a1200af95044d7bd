"""The explorer that serves a plan: microseconds a page, no lock, and the plan exchanged as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flywheel.events import normalise_query
from flywheel.serving.assignment import seed
from flywheel.serving.served import Placement


@dataclass(frozen=True, slots=True)
class Slot:
    """`doc_id` takes the place of `displaces` on this share of a query's pages."""

    doc_id: str
    displaces: str
    probability: float


class PlannedExplorer:
    """See `flywheel.serving.served.Explorer`. Thread-safe: a page is placed by one plan, the old or the new one."""

    def __init__(self, coin_seed: int = 0) -> None:
        self._seed = str(coin_seed)
        self._slots: Mapping[str, tuple[Slot, ...]] = {}

    def adopt(self, slots: Mapping[str, tuple[Slot, ...]]) -> None:
        """Serve this plan, by query key, from the next page on."""
        self._slots = slots

    def place(self, query: str, hits: Sequence[str], *, page: str) -> Placement | None:
        """The page with each planned document in its place, where that is still held by whom it was planned for.

        A document that stands further down changes places with it. The coin of each slot depends on the page's id
        alone, so a page can be placed again. Where a coin says no the page stays, and its propensities say with which
        probability it did.
        """
        slots = self._slots.get(normalise_query(query))
        if not slots:
            return None
        shown, propensities = list(hits), [1.0] * len(hits)
        at = {doc_id: place for place, doc_id in enumerate(hits)}
        touched: set[int] = set()
        explored: list[int] = []
        for slot in slots:
            there, here = at.get(slot.displaces), at.get(slot.doc_id)
            if there is None or (here is not None and here < there):
                continue
            places = {there} if here is None else {there, here}
            if places & touched:
                continue
            touched |= places
            taken = seed("explore", self._seed, page, slot.doc_id) / 2**64 < slot.probability
            for place in places:
                propensities[place] = slot.probability if taken else 1 - slot.probability
            if taken:
                shown[there] = slot.doc_id
                explored.append(there + 1)
                if here is not None:
                    shown[here] = slot.displaces
        if not touched:
            return None
        return Placement(tuple(shown), tuple(sorted(explored)), tuple(propensities))
