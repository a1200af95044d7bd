"""Trains a small field of challengers in one turn, scores them alike, and makes the chosen one the run's version.

A way is a reading of the evidence and a tier. Cheap ways come first. A way that is complete is not trained again after
a kill, and the choice is made anew from the same scores.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from flywheel.learning.choice import Choice, Contender, Scores, choose, gain, told
from flywheel.learning.folds import AUTO
from flywheel.learning.snapshot import Learning, NothingToLearn
from flywheel.learning.training import Training, TrainingFailed
from flywheel.learning.trial import LEAST, Labels, labels_of, pool_of, score
from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.index import Index
from flywheel.retrieval.registry import MANIFEST
from flywheel.settings.home import write_atomically
from flywheel.store.training.runs import TrainingRun
from trainer.process.launch import read_report, report_path, ways_path

log = logging.getLogger(__name__)

FIRST, ADAPTER, MEAN, FULL = "query_tower", "adapter", "query_tower-mean", "full"
CHAMPION = "champion"
_OWNER, _LABELS = "run.json", "labels.json"
# what it costs to serve a way: to embed every document again, or not
_COSTS = {FULL: 1}
Json = dict[str, Any]


@dataclass(frozen=True)
class Fields:
    """Makes fields of challengers, one for a run."""

    learning: Learning
    training: Training

    def train(self, run: TrainingRun, snapshot: Path) -> Json:
        """Train the field unless the run's version is complete; returns its report, with `field` in it.

        Raises:
            NothingToLearn: no challenger learned anything, or all are clearly worse than the champion.
            TrainingFailed: every way failed.
            Stopped: the process is ending; the next one goes on.
        """
        out = self.learning.registry.path(str(run.version))
        if (out / MANIFEST).exists():
            return read_report(out) or {}
        return _Field(self.learning, self.training, run, snapshot, out).train()

    def clear(self, run: TrainingRun) -> None:
        """Remove the challengers that were not chosen; harmless if there are none."""
        if run.tier == AUTO:
            shutil.rmtree(ways_path(self.learning.registry.path(str(run.version))), ignore_errors=True)


@dataclass
class _Field:
    learning: Learning
    training: Training
    run: TrainingRun
    snapshot: Path
    out: Path
    entries: dict[str, Json] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    labels: Labels = field(default_factory=lambda: Labels("none", (), (), None, np.empty(0, np.bool_)))
    failed: TrainingFailed | None = None
    spent: float = 0.0

    def train(self) -> Json:
        self._claim()
        reading = self.learning.reading(self.run) or "posterior"
        second = self.learning.second(self.run)
        self.labels = self._labels([self.snapshot, *([second[1]] if second else [])])
        enough = len(self.labels) >= LEAST
        if enough:
            self.scores[CHAMPION] = self._score(self._champion)
        self._way(FIRST, self.snapshot, FIRST, reading)
        few = f"{len(self.labels)} queries have labels to choose by, {LEAST} are the least"
        self._way(ADAPTER, self.snapshot, ADAPTER, reading, why_not=None if enough else few)
        self._second(second, few if not enough else None)
        self._way(FULL, None, FULL, reading, why_not=self._why_not_full() if enough else few)
        return self._end(self._choose())

    def _claim(self) -> None:
        """The folder of the ways, empty unless this run has begun to fill it."""
        room, owner = ways_path(self.out), {"run_id": self.run.run_id}
        mine = room / _OWNER
        if not mine.exists() or json.loads(mine.read_text("utf-8")) != owner:
            shutil.rmtree(room, ignore_errors=True)
            room.mkdir(parents=True)
            write_atomically(mine, json.dumps(owner).encode())

    def _labels(self, snapshots: list[Path]) -> Labels:
        for folder in snapshots:
            rows = pq.read_table(folder / "pairs.parquet", columns=["doc_id", "label", "split"]).to_pylist()
            self.trained |= {row["doc_id"] for row in rows if (row["label"], row["split"]) == ("positive", "train")}
        kept = ways_path(self.out) / _LABELS
        if not kept.exists():  # feedback that comes later changes them no more, so that a kill changes no choice
            known, learning = self.learning.known_ms(self.run), self.learning
            found = labels_of(learning.store, learning.config, self.run, known, self._index.doc_ids, self.trained)
            write_atomically(kept, json.dumps(found.as_dict()).encode())
        return Labels.of(json.loads(kept.read_text("utf-8")))

    @property
    def _index(self) -> Index:
        return self.learning.indexers.of(str(self.run.parent)).index

    @property
    def _champion(self) -> Encoder:
        return self.learning.registry.encoder(str(self.run.parent))

    def _second(self, second: tuple[str, Path] | None, few: str | None) -> None:
        """The second reading of the clicks, and the mean of both models, unless the first way is clearly better."""
        if second is None:
            self._not_tried(f"{FIRST}-second", FIRST, "second", "the clicks have one reading, or two that are alike")
            return
        name, effect = f"{FIRST}-{second[0]}", (float("nan"), 0.0)
        if FIRST in self.scores:
            effect = gain(self.scores[CHAMPION], self.scores[FIRST])
        clear = f"{FIRST} gained {effect[0]:+.4f} already, over one standard error ({effect[1]:.4f})"
        why_not = few or (clear if effect[0] > effect[1] else None)
        self._way(name, second[1], FIRST, second[0], why_not=why_not)
        both = [self._folder(one) for one in (FIRST, name)]
        whole = all((folder / MANIFEST).exists() for folder in both)
        self._way(
            MEAN, self.snapshot, FIRST, "both", average=tuple(both),
            why_not=why_not or (None if whole else "there are no two models to take the mean of"),
        )  # fmt: skip

    def _why_not_full(self) -> str | None:
        """None where both towers must train: the best cheap way gains nothing where training touched no document."""
        cheap = {name: scores for name, scores in self.scores.items() if name != CHAMPION}
        if not cheap:
            return None
        best = max(cheap, key=lambda name: cheap[name].mean())
        unseen = self.labels.unseen
        if int(unseen.sum()) < LEAST:
            return f"{int(unseen.sum())} queries are about documents that training did not touch, {LEAST} are the least"
        effect, _ = gain(self.scores[CHAMPION][unseen], cheap[best][unseen])
        return f"{best} gains {effect:+.4f} on documents that training did not touch" if effect > 0 else None

    def _way(
        self, name: str, snapshot: Path | None, tier: str, reading: str, *,
        average: tuple[Path, ...] = (), why_not: str | None = None,
    ) -> None:  # fmt: skip
        left = self.learning.config.limits.train_minutes - self.spent / 60
        if why_not is None and left <= 0:
            why_not = "limits.train_minutes was used up by the ways before it"
        if why_not is not None:
            self._not_tried(name, tier, reading, why_not)
            return
        snapshot = snapshot or self.learning.full(self.run)
        entry = self.entries[name] = {"way": name, "tier": tier, "reading": reading, "state": "nothing learned"}
        try:
            report = self.training.run(snapshot, self._folder(name), tier=tier, average=average, minutes=left)
        except TrainingFailed as failure:
            self.failed, entry["state"], entry["why"] = failure, "failed", str(failure)
            log.warning("run %s: %s", self.run.run_id, failure)
            return
        entry["seconds"] = float(report.get("total_seconds") or 0.0)
        self.spent += entry["seconds"]
        if report.get("nothing"):
            entry["why"] = str(report["nothing"])
            return
        entry["state"] = "trained"
        if report.get("stopped") == "time budget":
            entry["why"] = "limits.train_minutes cut it short"
        if self.labels and CHAMPION in self.scores:
            self._judge(name)

    def _judge(self, name: str) -> None:
        encoder = self.learning.registry.open(self._folder(name))
        if name != FULL:
            self.scores[name] = self._score(encoder)
            return
        # its document vectors are its own, so that all rank one pool anew
        others = {one: self._encoder(one) for one in self.scores}
        pool = pool_of(self.labels, self._index, list(others.values()), self.run.seed or 0)
        contents = self.learning.store.documents.contents(pool)
        pool = [doc_id for doc_id in pool if doc_id in contents]
        own = Index(encoder.index_id, encoder.dimension)
        own.add(pool, encoder.encode_documents([contents[doc_id] for doc_id in pool]))
        self.scores = {one: score(model, self._index, self.labels, pool) for one, model in others.items()}
        self.scores[FULL] = score(encoder, own, self.labels, pool)

    def _score(self, encoder: Encoder) -> Scores:
        return score(encoder, self._index, self.labels, None)

    def _encoder(self, name: str) -> Encoder:
        return self._champion if name == CHAMPION else self.learning.registry.open(self._folder(name))

    def _choose(self) -> Choice:
        """The choice; without labels the first way that learned."""
        learned = [name for name, entry in self.entries.items() if entry["state"] == "trained"]
        if not learned:
            if self.failed is not None and all(
                one["state"] in ("failed", "not tried") for one in self.entries.values()
            ):
                raise self.failed
            return Choice(None, {}, "no way learned anything that held-out queries bear out")
        if CHAMPION not in self.scores:
            return Choice(learned[0], {learned[0]: "chosen"}, "too few queries have labels to choose by")
        field_of = [Contender(name, _COSTS.get(name, 0), self.scores[name]) for name in learned]
        return choose(field_of, self.scores[CHAMPION])

    def _end(self, choice: Choice) -> Json:
        facts = self._facts(choice)
        if choice.chosen is None:
            tried = ", ".join(name for name, entry in self.entries.items() if entry["state"] != "not tried")
            raise NothingToLearn((f"nothing better was found: {choice.why}; tried: {tried}",), {"field": facts})
        chosen = self._folder(choice.chosen)
        report = {**(read_report(chosen) or {}), "field": facts}
        write_atomically(report_path(self.out), json.dumps(report, indent=2).encode())
        shutil.rmtree(self.out, ignore_errors=True)  # without a manifest, so incomplete
        chosen.rename(self.out)
        return report

    def _facts(self, choice: Choice) -> Json:
        for name, state in choice.states.items():
            self.entries[name]["state"] = state
        for name, scores in self.scores.items():
            if name != CHAMPION:
                self.entries[name] |= told(scores, self.scores[CHAMPION], self.labels.unseen)
        champion = self.scores.get(CHAMPION)
        return {
            "labels": self.labels.kind,
            "queries": len(self.labels),
            "champion": None if champion is None else round(float(champion.mean()), 4),
            "chosen": choice.chosen,
            "why": choice.why,
            "seconds": round(self.spent, 1),
            "ways": list(self.entries.values()),
        }

    def _not_tried(self, name: str, tier: str, reading: str, why: str) -> None:
        self.entries[name] = {"way": name, "tier": tier, "reading": reading, "state": "not tried", "why": why}

    def _folder(self, name: str) -> Path:
        return ways_path(self.out) / name
