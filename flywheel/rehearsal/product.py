"""Plays a product from outside: simulated people search over HTTP, and what they do goes to the broker as UBI events.

It uses only HTTP and Kafka, never the home: search answers in, JSON events out. `flywheel.rehearsal.people` decides
how people react.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flywheel.rehearsal.people import People, Reactions

Json = dict[str, Any]
_RETRY_SECONDS = 0.2


class SearchClient(Protocol):
    """Answers searches, as `POST /v1/search` does."""

    def search(self, query: str, k: int, client_id: str, session_id: str) -> Json: ...


class EventSink(Protocol):
    """Takes UBI events; the future ends when the event is safe."""

    def send(self, event: Json) -> Future[Any]: ...


@dataclass(frozen=True)
class Audience:
    """What people look for: `queries[i]` with the documents that answer it. There are `users` people, some far busier.

    `target` is the colluders' document; `threads` people search at once.
    """

    queries: Sequence[str]
    relevant: Sequence[Mapping[str, float] | frozenset[str]]
    users: int = 2_000
    k: int = 10
    target: str | None = None
    threads: int = 4

    def busyness(self) -> npt.NDArray[np.float64]:
        """Each user's share of the sessions: Zipf-like with exponent 0.5, so that the busiest one does not dominate."""
        weight = 1 / np.sqrt(np.arange(1, self.users + 1))
        return np.asarray(weight / weight.sum())


@dataclass
class Played:
    """What was played: ids of answered pages and of events handed over, and the events' futures."""

    pages: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    clicks: int = 0
    pages_with_click: int = 0
    retries: int = 0
    futures: list[Future[Any]] = field(default_factory=list)

    def settle(self, timeout: float = 120.0) -> int:
        """Wait for every acknowledgement; returns how many events failed."""
        deadline = time.monotonic() + timeout
        waiting, self.futures = self.futures, []
        return sum(future.exception(max(0.0, deadline - time.monotonic())) is not None for future in waiting)

    @property
    def ctr(self) -> float:
        """Share of the pages with a click."""
        return self.pages_with_click / max(1, len(self.pages))

    def add(self, other: Played) -> None:
        """Add the record of another part."""
        self.pages += other.pages
        self.events += other.events
        self.futures += other.futures
        self.clicks += other.clicks
        self.pages_with_click += other.pages_with_click
        self.retries += other.retries


def play(
    client: SearchClient,
    sink: EventSink,
    audience: Audience,
    people: People,
    *,
    sessions: int,
    seed: int,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> Played:
    """Play `sessions` searches with what follows each. The same seed gives the same people, queries and reactions.

    A search that fails is tried again until it is answered, as users of a real product do.
    """
    done = Played()
    lock, count = threading.Lock(), iter(range(1, sessions + 1))

    def part(seeds: np.random.SeedSequence, share: int) -> None:
        player = _Player(client, sink, audience, people, np.random.default_rng(seeds), now_ms)
        for _ in range(share):
            played = player.session()
            with lock:
                done.add(played)
                number = next(count)
            if progress is not None and (number % 50 == 0 or number == sessions):
                progress(number, sessions)

    threads = audience.threads
    shares = [sessions // threads + (index < sessions % threads) for index in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(part, s, n) for s, n in zip(_spawn(seed, threads), shares, strict=True)]:
            future.result()
    return done


def _spawn(seed: int, count: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(seed).spawn(count)


class _Player:
    """One thread's share of the people."""

    def __init__(
        self,
        client: SearchClient,
        sink: EventSink,
        audience: Audience,
        people: People,
        rng: np.random.Generator,
        now_ms: Callable[[], int],
    ) -> None:
        self._client, self._sink, self._audience, self._people = client, sink, audience, people
        self._rng, self._now_ms = rng, now_ms
        self._busyness = audience.busyness()

    def session(self) -> Played:
        """One search, and what the person does with the page."""
        audience, rng, played = self._audience, self._rng, Played()
        number = int(rng.integers(len(audience.queries)))
        user = int(rng.choice(audience.users, p=self._busyness))
        person = {"client_id": f"client-{user}", "session_id": uuid.uuid4().hex}
        page = self._search(audience.queries[number], person, played)
        hits = [str(hit["doc_id"]) for hit in page["hits"]]
        relevant = np.array([hit in audience.relevant[number] for hit in hits], dtype=np.bool_)
        colluding = bool(self._people.colludes(np.array([user]))[0])
        target = np.array([hit == audience.target for hit in hits], dtype=np.bool_)
        reactions = self._people.react(relevant, rng, colluding=colluding, target=target)
        played.pages.append(str(page["query_id"]))
        played.clicks = int(reactions.clicked.sum())
        played.pages_with_click = int(reactions.clicked.any())
        for event in self._events(str(page["query_id"]), hits, reactions, person):
            played.events.append(event["event_attributes"]["event_id"])
            played.futures.append(self._sink.send(event))
        return played

    def _search(self, query: str, person: Mapping[str, str], played: Played) -> Json:
        while True:
            try:
                return self._client.search(query, self._audience.k, person["client_id"], person["session_id"])
            except OSError:
                played.retries += 1
                time.sleep(_RETRY_SECONDS)

    def _events(self, query_id: str, hits: list[str], what: Reactions, person: Mapping[str, str]) -> Iterator[Json]:
        for place, doc_id in enumerate(hits):
            if what.clicked[place]:
                yield self._event("click", query_id, doc_id, place + 1, person)
            if what.dwell_ms[place]:
                dwell = {"dwell_ms": int(what.dwell_ms[place])}
                yield self._event("dwell", query_id, doc_id, place + 1, person, **dwell)
            if what.thumbs[place]:
                name = "thumbs_up" if what.thumbs[place] > 0 else "thumbs_down"
                yield self._event(name, query_id, doc_id, place + 1, person)

    def _event(
        self, action: str, query_id: str, doc_id: str, rank: int, person: Mapping[str, str], **more: int
    ) -> Json:
        moment = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        return {
            "application": "simulation",
            "action_name": action,
            "query_id": query_id,
            "client_id": person["client_id"],
            "session_id": person["session_id"],
            "timestamp": moment.isoformat(timespec="milliseconds"),
            "event_attributes": {
                "event_id": uuid.uuid4().hex,
                "object": {"object_id": doc_id, "object_id_field": "doc_id"},
                "position": {"ordinal": rank},
                **more,
            },
        }


class HttpSearch:
    """`POST /v1/search` of a daemon; `url` is asked again after a failure, since a restart may change it."""

    def __init__(self, url: Callable[[], str], token: str | None = None) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url, self._httpx = url, httpx
        self._known: str | None = None
        self._http = httpx.Client(headers=headers, timeout=30.0, trust_env=False)  # the daemon is near: no proxy

    def search(self, query: str, k: int, client_id: str, session_id: str) -> Json:
        """The answer. Raises OSError if there is none yet (unreachable, or not ready), ValueError if it is refused."""
        body = {"query": query, "k": k, "client_id": client_id, "session_id": session_id}
        try:
            self._known = self._known or self._url()
            response = self._http.post(f"{self._known}/v1/search", json=body)
        except (self._httpx.HTTPError, ValueError, KeyError) as error:
            self._known = None
            raise ConnectionError(str(error)) from error
        if response.status_code >= 500:
            raise ConnectionError(f"{response.status_code}: {response.text[:200]}")
        if response.is_error:
            raise ValueError(f"the search was refused with {response.status_code}: {response.text[:500]}")
        answer: Json = response.json()
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class BrokerEvents:
    """Sends events to the events topic; `send` is that of `flywheel.broker.producer.Producer`."""

    def __init__(self, send: Callable[[str, bytes | None, bytes], Future[Any]], topic: str) -> None:
        self._send, self._topic = send, topic

    def send(self, event: Json) -> Future[Any]:
        """Hand one event over, keyed by its client, so that a person's events keep their order."""
        return self._send(self._topic, str(event["client_id"]).encode(), json.dumps(event).encode())
