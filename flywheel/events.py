"""The records that Flywheel learns from: what was shown, what people did with it, and the documents themselves.

Pure data: nothing here reads a clock or a socket. `consumers.decode` translates wire formats into these records, once.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an event means; `OTHER` is stored but not used."""

    IMPRESSION = "impression"
    CLICK = "click"
    DWELL = "dwell"
    THUMBS_UP = "thumbs_up"
    THUMBS_DOWN = "thumbs_down"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The place of a message on the broker; `offset` is that of the message itself."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A field of a record that could not be read and was left out. `reason` goes on from the field's name and names no
    value, so that equal ones are counted together; `sample` is the value's beginning."""

    field: str
    reason: str
    sample: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """One page of results as it was shown: `hit_ids[0]` is rank 1.

    `client_key`, `user_key` and `session_id` are keyed hashes, never the ids that arrived. `teams` names, for an
    interleaved page, the ranker ("champion" or "challenger") that drafted each hit, or "both" where they agree.
    `sorted_by` is what the person sorted by (None: relevance), `sponsored` are documents with a paid place, `layout` is
    "grid" or another name. `fair_pair` is the upper rank of two neighbours that had an equal chance of standing in
    either order. `attributes` are those that have no place here, as JSON.
    """

    query_id: str
    text: str
    timestamp_ms: int
    client_key: str | None = None
    user_key: str | None = None
    session_id: str | None = None
    hit_ids: tuple[str, ...] = ()
    model_version: str | None = None
    experiment_id: str | None = None
    arm: str | None = None
    propensities: tuple[float, ...] | None = None
    teams: tuple[str, ...] | None = None
    explored: tuple[int, ...] = ()
    latency_ms: float | None = None
    application: str | None = None
    attributes: str | None = None
    sorted_by: str | None = None
    filtered: bool = False
    sponsored: tuple[str, ...] = ()
    layout: str | None = None
    fair_pair: int | None = None
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a person did. `rank` is 1-based; `dwell_ms` is set only for `Kind.DWELL`."""

    event_id: str
    kind: Kind
    action_name: str
    timestamp_ms: int
    query_id: str | None = None
    doc_id: str | None = None
    rank: int | None = None
    dwell_ms: int | None = None
    client_key: str | None = None
    user_key: str | None = None
    session_id: str | None = None
    application: str | None = None
    attributes: str | None = None
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One version of a document; the latest `updated_at_ms` wins, and `deleted` takes it out of every index."""

    doc_id: str
    title: str
    text: str
    updated_at_ms: int
    deleted: bool = False
    ignored: tuple[Ignored, ...] = ()

    @property
    def content(self) -> str:
        """What an encoder reads: title and text, one space between."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be read: its bytes, the reason, and the field that is the reason, where one is.

    Its place is in the list that holds it. `key` and `sent_ms` are the broker's, so that it can be read once more.
    """

    payload: bytes
    reason: str
    received_at_ms: int
    field: str | None = None
    key: bytes | None = None
    sent_ms: int | None = None


@dataclass(slots=True)
class Batch:
    """What one poll brought: records with their coordinates, and where to go on reading.

    `next_offsets` maps (topic, partition) to the offset after the last message of this batch. A store writes all of a
    batch in one transaction, or nothing.
    """

    queries: list[tuple[Coordinates, Query]] = field(default_factory=list)
    events: list[tuple[Coordinates, Event]] = field(default_factory=list)
    documents: list[tuple[Coordinates, Document]] = field(default_factory=list)
    dead_letters: list[tuple[Coordinates, DeadLetter]] = field(default_factory=list)
    next_offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.queries) + len(self.events) + len(self.documents) + len(self.dead_letters)


_SPACES = re.compile(r"\s+")


def normalise_query(text: str) -> str:
    """The key under which queries are grouped: NFKC, case folded, white space collapsed, outer punctuation dropped.

    The order of words stays. Ignoring it would join no queries of the UBI, Cranfield or ACORD collections, but six
    pairs of SciFact's claims that say opposite things ("venules have a larger lumen diameter than arterioles").
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SPACES.sub(" ", folded).strip().strip("?!.,;: ")
