"""Loads models and collections for `flywheel evaluate`. It does not compute vectors that an index has already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.shell import Shell
from flywheel.files.beir import Judged, read_corpus, read_split
from flywheel.gates.rankings import METRICS, Scored, differences, moved, score, summary

if TYPE_CHECKING:
    from flywheel.gates.rankings import Vectors
    from flywheel.retrieval.encoder import Encoder
    from flywheel.settings.load import Trainer

_ALIASES = ("champion", "challenger")


@dataclass(slots=True)
class Bench:
    """One split of one collection, ready to score any model on; `titles` are what people read of documents."""

    settings: Trainer
    indexes: Path
    corpus: dict[str, str]
    judged: Judged
    seen: Collection[str]
    judged_only: bool
    progress: Callable[[int, int], None]
    titles: dict[str, str] = field(default_factory=dict)
    _documents: dict[str, Vectors] = field(default_factory=dict)
    _scored: dict[str, Scored] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        shell: Shell,
        folder: Path,
        split: str,
        *,
        seen: Collection[str],
        judged_only: bool,
        progress: Callable[[int, int], None],
    ) -> Bench:
        """Read the whole collection; see `flywheel.files.beir` for the errors."""
        from flywheel.settings.home import Home
        from flywheel.settings.load import load

        passages = list(read_corpus(folder))
        corpus = {passage.doc_id: passage.content for passage in passages}
        titles = {passage.doc_id: passage.title or passage.content for passage in passages}
        settings = load(shell.home, shell.environ).trainer
        judged = read_split(folder, split)
        return cls(settings, Home(shell.home).indexes, corpus, judged, frozenset(seen), judged_only, progress, titles)

    def evaluate(self, known: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
        """`{queries, ndcg@10, recall@10, mrr@10}`, each `{all, seen, unseen}`."""
        return summary(self._score(known, name))

    def compare(
        self, known: Sequence[dict[str, Any]], name: str, other: str, *, metric: str = METRICS[0], most: int = 10
    ) -> dict[str, Any]:
        """This model against the other: the other's figures, the differences, and the queries that moved most.

        Returns:
            `{model, metric, scores, differences, moved, wins, losses}`; `differences[metric][part]` is
            `{effect, low, high, p_value, better, worse, equal}`, or `{inconclusive, ...}`; `wins` and `losses` hold at
            most `most` queries each, the largest change first, `moved` the largest of both.
        """
        ours, theirs = self._score(known, name), self._score(known, other)
        moves = [self._move(change, ours) for change in moved(ours, theirs, metric, most=len(self.judged))]
        return {
            "model": other,
            "metric": metric,
            "scores": summary(theirs),
            "differences": differences(ours, theirs),
            "moved": moves[:most],
            "wins": [move for move in moves if move["after"] > move["before"]][:most],
            "losses": [move for move in moves if move["after"] < move["before"]][:most],
        }

    def _move(self, change: dict[str, Any], ours: Scored) -> dict[str, Any]:
        row = change["row"]
        grades = self.judged.judgements[row]
        return {
            "id": self.judged.ids[row],
            "text": self.judged.texts[row],
            "seen": bool(ours.seen[row]),
            **change,
            "hits_before": self._hits(change["ranked_before"], grades),
            "hits_after": self._hits(change["ranked_after"], grades),
            "missed": [self._hit(doc, grade) for doc, grade in grades.items() if grade > 0 and not _found(doc, change)],
        }

    def _hits(self, ranked: Sequence[str], grades: Mapping[str, float]) -> list[dict[str, Any]]:
        return [self._hit(doc_id, grades.get(doc_id)) for doc_id in ranked]

    def _hit(self, doc_id: str, grade: float | None) -> dict[str, Any]:
        return {"doc_id": doc_id, "title": self.titles.get(doc_id, ""), "grade": grade}

    def _score(self, known: Sequence[dict[str, Any]], name: str) -> Scored:
        if name not in self._scored:
            encoder = self._load(model_path(known, name))
            queries = encoder.encode_queries(self.judged.texts)
            documents, ids = self._vectors(encoder), list(self.corpus)
            self._scored[name] = score(
                queries, documents, ids, self.judged.judgements, self.seen, judged_only=self.judged_only
            )
        return self._scored[name]

    def _load(self, path: str) -> Encoder:
        from flywheel.retrieval.encoder import Encoder

        settings = self.settings
        return Encoder.load(path, device=settings.device, bf16=settings.bf16, max_seq_length=settings.max_seq_length)

    def _vectors(self, encoder: Encoder) -> Vectors:
        """Vectors of the corpus by this model's document side; models with the same document tower share them."""
        import numpy as np

        if encoder.index_id not in self._documents:
            ids = list(self.corpus)
            vectors = self._indexed(encoder.index_id)
            missing = [doc_id for doc_id in ids if doc_id not in vectors]
            fresh = encoder.encode_documents([self.corpus[doc_id] for doc_id in missing], progress=self.progress)
            vectors.update(zip(missing, fresh, strict=True))
            self._documents[encoder.index_id] = np.stack([vectors[doc_id] for doc_id in ids])
        return self._documents[encoder.index_id]

    def _indexed(self, index_id: str) -> dict[str, Any]:
        """Vectors of the documents that the home's index holds with exactly this content."""
        from flywheel.retrieval.index import Index
        from flywheel.store.feedback.rows import content_hash

        folder = self.indexes / index_id
        if not folder.is_dir():
            return {}
        index = Index.load(folder, index_id=index_id)
        same = [key for key, text in self.corpus.items() if index.hashes.get(key) == content_hash(text)]
        return dict(zip(same, index.vectors(same), strict=True)) if same else {}


def _found(doc_id: str, change: Mapping[str, Any]) -> bool:
    return doc_id in change["ranked_before"] or doc_id in change["ranked_after"]


def model_path(known: Sequence[dict[str, Any]], name: str) -> str:
    """The directory of `champion`, `challenger`, `base` (the version without parent) or a version.

    Raises:
        click.ClickException: no such model; the message lists the existing ones.
    """
    for model in known:
        if name == model["version"] or (name in _ALIASES and model.get("alias") == name):
            return str(model["path"])
    if name == "base":
        return next((str(model["path"]) for model in known if not model.get("parent")), "auto")
    versions = ", ".join(model["version"] for model in known) or "none yet"
    raise click.ClickException(f"no model {name!r}; there are champion, base and these versions: {versions}")
