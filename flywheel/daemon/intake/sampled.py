"""What the answers to a probability sample say of the positives that it was drawn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.stats.estimate import Inconclusive
from flywheel.stats.survey import Stratum, share_that_holds

STATE = "sampled_precision"
RELEVANT = 1.0
"""A grade from here on is relevant, as `flywheel evaluate` has it unless told otherwise."""


def precision_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The estimate from one file of answers; None where none belongs to a sample.

    Of several samples in one file the one with most answers counts: samples overlap, and are of different positives.
    """
    samples: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if record.get("sample") and record.get("stratum") and record.get("stratum_size"):
            samples[str(record["sample"])].append(record)
    if not samples:
        return None
    name, answers = max(samples.items(), key=lambda item: (len(item[1]), item[0]))
    strata: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for answer in answers:
        strata[str(answer["stratum"])].append(answer)
    counted = [
        Stratum(
            size=max(int(told[0]["stratum_size"]), len(told)),
            answered=len(told),
            right=sum(float(answer["grade"]) >= RELEVANT for answer in told),
        )
        for told in strata.values()
    ]
    found = share_that_holds(counted)
    population = max(int(answers[0].get("population") or 0), sum(stratum.size for stratum in counted))
    known = {"sample": name, "run_id": name.rpartition(" ")[0], "answers": len(answers), "population": population}
    if isinstance(found, Inconclusive):
        return {**known, "precision": None, "bound": None, "meaning": found.reason}
    figures = {"precision": found.share, "bound": found.bound, "confidence": found.confidence, "covered": found.units}
    part = "" if found.units == population else f" of the {found.units} in strata with answers"
    meaning = (
        f"{found.share:.1%} of the {population} positives{part} are right, by {len(answers)} answers: at least "
        f"{found.bound:.1%} with a confidence of {found.confidence:.0%}"
    )
    return {**known, **figures, "meaning": meaning}
