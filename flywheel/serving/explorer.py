"""The explorer that serves a plan: microseconds a page, without a lock, because a plan is replaced as a whole."""

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
        """The page with each planned document in the place of the one it displaces, if that is still on the page.

        A planned document that is further down changes places with it. The coin of each slot depends on page id, seed
        and document only, so that a placement can be repeated. Where the coin says no, both stay, and the propensities
        give the probability of that.
        """
        slots = self._slots.get(normalise_query(query))
        if not slots:
            return None
        shown, propensities = list(hits), [1.0] * len(hits)
        at = {doc_id: place for place, doc_id in enumerate(hits)}
        touched: set[int] = set()
        explored: list[int] = []
        for slot in slots:
            target, current = at.get(slot.displaces), at.get(slot.doc_id)
            if target is None or (current is not None and current < target):
                continue
            places = {target} if current is None else {target, current}
            # one coin for each place: with a second one the propensity would be wrong
            if places & touched:
                continue
            touched |= places
            taken = seed("explore", self._seed, page, slot.doc_id) / 2**64 < slot.probability
            for place in places:
                propensities[place] = slot.probability if taken else 1 - slot.probability
            if taken:
                shown[target] = slot.doc_id
                explored.append(target + 1)
                if current is not None:
                    shown[current] = slot.displaces
        if not touched:
            return None
        return Placement(tuple(shown), tuple(sorted(explored)), tuple(propensities))
