"""Which part of a run each query belongs to: it trains, stops, chooses, or guards. Each field draws its own parts.

The parts of a field are disjoint, and they change with the champion and the evidence: what is held out once trains
later, and no query decides for ever. Within a run, and in a repetition of it, a query's part never changes. A run of a
named tier holds out the same queries for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from flywheel.events import normalise_query
from flywheel.store.training.runs import TrainingRun
from trainer.data.dataset import held_out

Fold = Literal["train", "stop", "guard", "choose"]
AUTO = "auto"
"""The tier of a run that trains a field of challengers."""


@dataclass(frozen=True, slots=True)
class Folds:
    """The parts of one run: `share` of its queries is held out (`trainer.dev_share`), and once more for a `field`.

    Without a field one part, which no `epoch` changes, stops and guards: it is called guard, and the trainer finds it
    itself.
    """

    epoch: str
    share: float
    field: bool

    @staticmethod
    def of(run: TrainingRun, share: float) -> Folds:
        """Those of this run; the same for every run of one tier from one champion on the same evidence."""
        return Folds(f"{run.parent}/{run.until_ms}", share, run.tier == AUTO)

    def query(self, key: str) -> Fold:
        """The part of this query (normalised text)."""
        if self.field:
            return fold_of(key, self.share, epoch=self.epoch)
        return "guard" if held_out(key, self.share, kind="query") else "train"

    def document(self, doc_id: str) -> bool:
        """Whether this document is held out: no pair about it trains, and such pairs help to stop."""
        if self.field:
            return _place("document", doc_id, self.epoch) < self.share
        return held_out(doc_id, self.share, kind="document")

    def split(self, pairs: pa.Table, before: Folds | None) -> pa.Table:
        """The pairs that train or stop this field, with a column `split` (train, dev).

        Queries that choose or guard are left out, because the trainer must not see them. What was held out of the
        champion's run (its folds: `before`) is new to it, though that run had read it.
        """
        keys = [normalise_query(text) for text in pairs["query"].to_pylist()]
        documents = pairs["doc_id"].to_pylist()
        folds = [self.query(key) for key in keys]
        split, source = [], []
        for key, doc_id, fold, was in zip(keys, documents, folds, pairs["source"].to_pylist(), strict=True):
            split.append("dev" if fold == "stop" or self.document(doc_id) else "train")
            held = before is not None and (before.query(key) != "train" or before.document(doc_id))
            source.append("new" if held else was)
        kept = pa.array([fold in ("train", "stop") for fold in folds], pa.bool_())
        table = pairs.drop_columns(["source"]).append_column("source", pa.array(source, pa.string()))
        return table.append_column("split", pa.array(split, pa.string())).filter(kept)


def fold_of(key: str, share: float, *, epoch: str) -> Fold:
    """The part of the query `key` (normalised text) in the field `epoch`.

    Half of `share` stops the training, half of it guards. As many queries again choose among the challengers.
    """
    place = _place("query", key, epoch)
    if place < share / 2:
        return "stop"
    if place < share:
        return "guard"
    return "choose" if place < 2 * share else "train"


def _place(kind: str, key: str, epoch: str) -> float:
    """A number from 0 to 1 that looks drawn at random: the same for the same key, kind and run."""
    digest = hashlib.blake2b(f"{epoch}:{kind}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
