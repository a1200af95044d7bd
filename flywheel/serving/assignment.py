"""Decides who sees what in a live comparison, by a sticky hash. It has no state: a person always gets the same arm."""

from __future__ import annotations

import hashlib
from typing import Literal

from flywheel.serving.served import LiveExperiment

Arm = Literal["champion", "challenger", "interleaved"]


def seed(*parts: str) -> int:
    """64 bits that depend on every part and on the borders between them."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big")


def position(experiment_id: str, person: str) -> float:
    """A person's position in [0, 1) in one experiment: uniform over people, independent between experiments."""
    return seed("arm", experiment_id, person) / 2**64


def assign(experiment: LiveExperiment | None, person: str | None) -> Arm | None:
    """The arm of `person`, or None without an experiment, without a person, or outside the experiment's share.

    Both arms of a split are equally large. They grow from the two ends of the positions, and people between them take
    no part. So the share can ramp up to a half, and nobody ever changes arms.
    """
    if experiment is None or person is None:
        return None
    place, share = position(experiment.experiment_id, person), experiment.share
    if experiment.method == "interleaving":
        return "interleaved" if place < share else None
    first: Arm = "champion" if experiment.method == "holdback" else "challenger"
    last: Arm = "challenger" if experiment.method == "holdback" else "champion"
    return first if place < share else last if place >= 1 - share else None
