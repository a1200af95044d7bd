"""What the HTTP API needs from other rooms, as small protocols; it builds none of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from flywheel.operations import Operations
from flywheel.serving.ranking import Filters
from flywheel.serving.served import Page, Ranker
from flywheel.serving.tracing import Spans, none
from flywheel.settings.load import Limits, Serving

TopicKind = Literal["queries", "events"]


class NotAcknowledged(Exception):  # noqa: N818 - it reads as what it says
    """The broker did not confirm that it holds every message; some may have arrived nevertheless."""


class TooLarge(Exception):  # noqa: N818 - as above
    """These of the messages, by their index, are more than the broker takes, however often they are sent; it has
    acknowledged all the others."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


class EventPublisher(Protocol):
    """Hands messages to the broker."""

    async def publish(self, kind: TopicKind, payloads: Sequence[bytes]) -> None:
        """Return once the broker has acknowledged all of them.

        Raises:
            NotAcknowledged: it did not acknowledge all; sending again is harmless.
            TooLarge: it acknowledged all but those that it never takes.
        """


@dataclass(frozen=True, slots=True)
class Ruling:
    """What ingestion makes of a record: the fields that it leaves out, with reasons, or why it refuses all of it."""

    query_id: str | None = None
    ignored: tuple[tuple[str, str], ...] = ()
    refused: str | None = None


Judge = Callable[[TopicKind, bytes, int | None], Ruling]


class SearchService(Protocol):
    """Ranks; `flywheel.serving.engine.SearchEngine` fulfils it."""

    def search(
        self,
        query: str,
        k: int,
        *,
        client_id: str | None = None,
        session_id: str | None = None,
        filters: Filters | None = None,
    ) -> Page: ...

    def ranker(self, name: str) -> Ranker: ...

    def loaded(self) -> Mapping[str, str]: ...

    def counts(self) -> Mapping[str, int]: ...


Pages = Sequence[Route]


@dataclass(frozen=True, slots=True)
class Services:
    """All that `create_app` needs.

    `judge` takes a record's kind, its bytes, and the time to take where it has none. `ready` returns the reasons why
    the daemon is not ready; an empty list means ready. `pages` are routes for people's browsers, answered beside the
    API. `spans` traces searches.
    """

    search: SearchService
    operations: Operations
    publisher: EventPublisher
    judge: Judge
    settings: Serving
    limits: Limits
    registry: CollectorRegistry
    ready: Callable[[], list[str]]
    pages: Pages = ()
    spans: Spans = none
