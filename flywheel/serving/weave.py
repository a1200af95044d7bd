"""Two rankings woven into one page by team draft, the same way each time for the same person, query and experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.serving.arms import seed


@dataclass(frozen=True, slots=True)
class Woven:
    """The page, and for each hit the ranker that drafted it: "champion", "challenger", or "both" where they agree."""

    doc_ids: tuple[str, ...]
    teams: tuple[str, ...]


def weave(champion: Sequence[str], challenger: Sequence[str], k: int, key: tuple[str, ...]) -> Woven:
    """Team draft (Radlinski, Kurup & Joachims 2008): a coin decides each round who drafts first, each its best left.

    While the rankings agree from the top down, a hit is credited to neither: it says nothing about the difference.
    """
    generator = np.random.default_rng(seed("weave", *key))
    agreed = 0
    while agreed < min(k, len(champion), len(challenger)) and champion[agreed] == challenger[agreed]:
        agreed += 1
    doc_ids, teams = list(champion[:agreed]), ["both"] * agreed
    rankings = {"champion": champion, "challenger": challenger}
    while len(doc_ids) < k:
        before = len(doc_ids)
        order = ("champion", "challenger") if generator.random() < 0.5 else ("challenger", "champion")
        for team in order:
            best = next((doc_id for doc_id in rankings[team] if doc_id not in doc_ids), None)
            if best is not None and len(doc_ids) < k:
                doc_ids.append(best)
                teams.append(team)
        if len(doc_ids) == before:
            break
    return Woven(tuple(doc_ids), tuple(teams))
