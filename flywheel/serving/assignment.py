"""Who sees what in a live comparison: a sticky split by hash. Pure: the same person always meets the same arm."""

from __future__ import annotations

import hashlib
from typing import Literal

from flywheel.serving.served import LiveExperiment

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


def assign(experiment: LiveExperiment | None, person: str | None) -> Arm | None:
    """The arm of `person`, or None where there is no experiment or nobody to follow through it.

    Both arms of a split are equally large, grown from the two ends of the positions, and whoever stands between them is
    no part of the comparison: so the share may ramp up to a half and nobody ever changes arms.
    """
    if experiment is None or person is None:
        return None
    place, share = position(experiment.experiment_id, person), experiment.share
    if experiment.method == "interleaving":
        return "interleaved" if place < share else None
    first: Arm = "champion" if experiment.method == "holdback" else "challenger"
    last: Arm = "challenger" if experiment.method == "holdback" else "champion"
    return first if place < share else last if place >= 1 - share else None
