"""The explorer that serves a plan, or swaps two neighbours: microseconds a page.

It needs no lock, because a plan is replaced as a whole. It never does both to one page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flywheel.events import normalise_query
from flywheel.serving.assignment import seed
from flywheel.serving.served import Placement

FAIR = 0.5
DEEPEST = 10
"""Lower neighbours are not swapped: hardly anybody chooses between them."""


@dataclass(frozen=True, slots=True)
class Slot:
    """`doc_id` takes the place of `displaces` on this share of a query's pages."""

    doc_id: str
    displaces: str
    probability: float


class PlannedExplorer:
    """See `flywheel.serving.served.Explorer`. Thread-safe: a page is placed by one plan, the old or the new one."""

    def __init__(self, coin_seed: int = 0, swaps: float = 0.0) -> None:
        self._seed = str(coin_seed)
        self._swaps = swaps
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
        if seed("swap", self._seed, page) / 2**64 < self._swaps:
            return self._fair(hits, page)
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

    def _fair(self, hits: Sequence[str], page: str) -> Placement | None:
        """Two neighbours, drawn from the first `DEEPEST` ranks, in an order that a fair coin decides.

        FairPairs (Radlinski & Joachims, AAAI 2006, section 4), with one pair a page: whoever is clicked below the other
        was preferred, since each stands below as often. What that can cost is bounded without any model. A swap of
        ranks k and k + 1 loses at most e_k - e_(k+1) clicks, if e_k is the chance that rank k is looked at. Half of the
        pairs are swapped and each is drawn alike, so that the sum telescopes: a page of n ranks loses at most
        e_1 / (2 (n - 1)) clicks on average, and only the share of pages that are drawn for it does.
        """
        places = min(len(hits), DEEPEST)
        if places < 2:
            return None
        upper = seed("pair", self._seed, page) % (places - 1)
        swapped = seed("order", self._seed, page) / 2**64 < FAIR
        shown, propensities = list(hits), [1.0] * len(hits)
        if swapped:
            shown[upper : upper + 2] = hits[upper + 1], hits[upper]
        propensities[upper : upper + 2] = FAIR, FAIR
        return Placement(tuple(shown), (), tuple(propensities), fair_pair=upper + 1)
