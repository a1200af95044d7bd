"""What a run says of its evidence: a row of checks, the trainer's columns, and why there is nothing to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from flywheel.clicks.model import ClickModel
from flywheel.learning.reading import Read
from flywheel.store.training.runs import TrainingRun

_COLUMNS = ("query", "doc_id", "label", "weight", "posterior")


def checked(found: Read, model: ClickModel) -> dict[str, Any]:
    """The run's row of `evidence_checks`."""
    agreed, told, verified = found.meaning.agreement, found.meaning.opinion, found.verified
    return {
        "reading": found.reading,
        "sentence": found.meaning.sentence,
        "agreement_z": agreed.z,
        "agreement_p": agreed.p,
        "telling_clicks": agreed.clicks,
        "telling_queries": agreed.queries,
        "opinion_z": None if told is None else told.z,
        "opinion_p": None if told is None else told.p,
        "clear": model.clear,
        "asked": verified.asked,
        "promised": None if verified.promise is None else verified.promise.level,
        "promised_positives": found.promised,
        "positives": found.pairs.count("positive"),
        "judged_pairs": verified.judged_pairs,
        "judged_queries": verified.judged_queries,
        "pairs_needed": verified.pairs_needed,
        "verdict": verified.sentence,
    }


def labelled(pairs: pa.Table, source: str) -> pa.Table:
    """The trainer's columns. The table's `source` (clicks or explicit) becomes the trainer's `origin`."""
    labelled = pairs.select(_COLUMNS).append_column("source", pa.array([source] * len(pairs), pa.string()))
    return labelled.append_column("origin", pairs["source"].combine_chunks().cast(pa.string()))


def in_words(run: TrainingRun, facts: Mapping[str, Any]) -> str:
    """One line for the log: what the run's evidence gave."""
    return (
        f"run {run.run_id}: of {facts['pairs_shown']} pairs shown {facts['positives']} are positives, "
        f"{facts['new_positives']} of them new, read by {facts['reading']}; {facts['excluded_users']} people left out"
    )


def why_nothing(facts: dict[str, Any]) -> tuple[str, ...]:
    """What is missing first, with its number."""
    gone, clicked = facts["gone_clicked_pairs"], facts["clicked_pairs"]
    if facts["gone_positives"] or (clicked and gone == clicked):
        pairs = facts["gone_positives"] or gone
        return (f"{pairs} new positive pairs are about documents that are gone; nothing to learn",)
    if facts["positives"]:
        return (f"all {facts['positives']} positive pairs are known to the champion already; nothing new to learn",)
    shown = f"{facts['impressions']:.0f} impressions of {facts['pairs_shown']} pairs gave no positive"
    return (facts["warnings"][0], shown, *facts["warnings"][1:])
