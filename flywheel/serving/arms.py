"""Who sees what in a live comparison: a sticky split by hash. Pure: the same person always meets the same arm."""

from __future__ import annotations

import hashlib
from typing import Literal

from flywheel.serving.live import Experiment

Arm = Literal["champion", "challenger", "interleaved"]


def seed(*parts: str) -> int:
    """64 bits that depend on every part and on where one part ends and the next begins."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big")


def position(experiment_id: str, person: str) -> float:
    """Where a person stands in [0, 1) in one experiment: uniform over people, independent between experiments."""
    return seed("arm", experiment_id, person) / 2**64


def assign(experiment: Experiment | None, person: str | None) -> Arm | None:
    """The arm of `person`, or None where there is no experiment or nobody to follow through it.

    The threshold moves with the ramp and the person does not: whoever is in the challenger's arm stays in it while
    the share grows. Where pages are interleaved, those beyond the share are no part of the comparison.
    """
    if experiment is None or person is None:
        return None
    reached = position(experiment.experiment_id, person) < experiment.share
    if experiment.method == "interleaving":
        return "interleaved" if reached else None
    return "challenger" if reached else "champion"
