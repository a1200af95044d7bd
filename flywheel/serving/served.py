"""What is served at one moment, as one immutable value, and the page of results that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Method = Literal["interleaving", "split", "holdback"]


class Encoder(Protocol):
    """The part of `flywheel.retrieval.encoder.Encoder` that serving uses; rows are unit vectors."""

    @property
    def dimension(self) -> int: ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors: ...


class Index(Protocol):
    """The part of `flywheel.retrieval.index.Index` that serving uses."""

    @property
    def index_id(self) -> str: ...

    @property
    def hashes(self) -> Mapping[str, str]: ...

    def __len__(self) -> int: ...

    def search(self, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]: ...

    def vectors(self, doc_ids: Sequence[str]) -> Vectors: ...


class Titles(Protocol):
    """The source of titles; a document that is missing from its answer is deleted, and hidden."""

    def titles(self, doc_ids: Sequence[str]) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Ranker:
    """One model version with the index that its query vectors search."""

    version: str
    encoder: Encoder
    index: Index


@dataclass(frozen=True, slots=True)
class LiveExperiment:
    """A live comparison. `share` is the part of the people that each arm reaches, or that sees interleaved pages.

    In a `holdback` the arm called champion is the earlier champion, and `Live.challenger` serves it.
    """

    experiment_id: str
    method: Method
    share: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where exploration put documents: the list to show, the ranks it chose (1-based), and for each rank the
    probability that this document is shown there. `fair_pair` is the upper rank of two neighbours of which either is
    above with equal chance; None: there is no such pair."""

    hits: tuple[str, ...]
    explored: tuple[int, ...]
    propensities: tuple[float, ...]
    fair_pair: int | None = None


class Explorer(Protocol):
    """Directed exploration: may put a document worth learning about into a page, or leave it (None)."""

    def place(self, query: str, hits: Sequence[str], *, page: str) -> Placement | None: ...


@dataclass(frozen=True, slots=True)
class Live:
    """The champion and what is tried against it; swapped as a whole, so that no page mixes two states."""

    version: str
    encoder: Encoder
    index: Index
    challenger: Ranker | None = None
    experiment: LiveExperiment | None = None
    explorer: Explorer | None = None
    frozen: Live | None = None
    """What is served to people who keep one model for ever and to those held against them: first of all."""

    @property
    def champion(self) -> Ranker:
        return Ranker(self.version, self.encoder, self.index)

    @property
    def rankers(self) -> tuple[Ranker, ...]:
        """Every ranker that may serve somebody."""
        beside = [other for live in (self, self.frozen) if live and (other := live.challenger)]
        return (self.champion, *beside)

    def ranker_of(self, arm: str | None) -> Ranker:
        """The ranker for pages of that arm; without an arm, and for interleaved pages, the champion."""
        tried = "champion" if self.experiment and self.experiment.method == "holdback" else "challenger"
        return self.challenger if self.challenger is not None and arm == tried else self.champion


@dataclass(frozen=True, slots=True)
class Hit:
    doc_id: str
    score: float
    title: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of results, with all that a verdict must know about how it was made."""

    query_id: str
    text: str
    timestamp_ms: int
    latency_ms: float
    model_version: str
    index_id: str
    hits: tuple[Hit, ...]
    client_id: str | None = None
    session_id: str | None = None
    experiment_id: str | None = None
    arm: str | None = None
    propensities: tuple[float, ...] | None = None
    teams: tuple[str, ...] | None = None
    explored: tuple[int, ...] = ()
    filtered: bool = False
    fair_pair: int | None = None

    def answer(self) -> dict[str, Any]:
        """What `POST /v1/search` returns."""
        return {
            "query_id": self.query_id,
            "model_version": self.model_version,
            "index_id": self.index_id,
            "experiment_id": self.experiment_id,
            "arm": self.arm,
            "hits": [{"doc_id": hit.doc_id, "score": hit.score, "title": hit.title} for hit in self.hits],
        }
