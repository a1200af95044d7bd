"""The player of a product: deterministic but for ids, readable on the wire, patient, and honest about what was sent."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from typing import Any

import numpy as np

from consumers.decode import Decoder
from flywheel.events import Kind
from flywheel.rehearsal.people import Afterwards, People
from flywheel.rehearsal.product import Audience, BrokerEvents, Played, play
from flywheel.settings.load import Signals

QUERIES = [f"question {number}" for number in range(40)]
AUDIENCE = Audience(QUERIES, [frozenset({f"d{number % 10}"}) for number in range(40)], users=200)
TALKATIVE = People("pbm", Afterwards(thumb_rate=0.5))


class Shop:
    """Answers every search with d0 to d9 in an order that the query decides, after `failures` refusals."""

    def __init__(self, failures: int = 0) -> None:
        self.searches: list[tuple[str, str]] = []
        self.sessions: dict[str, str] = {}
        self.failures = failures

    def search(self, query: str, k: int, client_id: str, session_id: str) -> dict[str, Any]:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("not yet")
        self.searches.append((query, client_id))
        self.sessions[session_id] = query
        order = np.random.default_rng(list(query.encode())).permutation(10)[:k]
        return {"query_id": f"page-{session_id}", "hits": [{"doc_id": f"d{number}"} for number in order]}


class Inbox:
    """Keeps events as the bytes that a broker would get; fails the first `failures` of them."""

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[bytes] = []
        self.failures = failures
        self.sink = BrokerEvents(self.take, "ubi.events")

    def take(self, topic: str, key: bytes | None, value: bytes) -> Future[None]:
        future: Future[None] = Future()
        self.messages.append(value)
        if len(self.messages) <= self.failures:
            future.set_exception(ConnectionError("lost"))
        else:
            future.set_result(None)
        return future

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.messages]


def perform(shop: Shop, inbox: Inbox, *, sessions: int = 400, seed: int = 3, **options: Any) -> Played:
    return play(shop, inbox.sink, AUDIENCE, TALKATIVE, sessions=sessions, seed=seed, **options)


def answer(query: str) -> str:
    return next(iter(AUDIENCE.relevant[QUERIES.index(query)]))


def story(inbox: Inbox) -> Counter[tuple[Any, ...]]:
    """What was done, without ids and times."""
    return Counter(
        (e["action_name"], e["client_id"], e["event_attributes"]["object"]["object_id"],
         e["event_attributes"]["position"]["ordinal"], e["event_attributes"].get("dwell_ms"))
        for e in inbox.events
    )  # fmt: skip


def test_same_seed_same_story() -> None:
    """The seed decides who searches what and how they react; ids alone are new each time."""
    runs = []
    for seed in (3, 3, 4):
        shop, inbox = Shop(), Inbox()
        perform(shop, inbox, seed=seed)
        runs.append((Counter(shop.searches), story(inbox)))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_every_event_is_counted_and_unique() -> None:
    """Ids of pages and events are distinct, and the record names exactly what was handed over."""
    shop, inbox = Shop(), Inbox()
    played = perform(shop, inbox)
    sent = [event["event_attributes"]["event_id"] for event in inbox.events]
    assert len(played.pages) == len(set(played.pages)) == 400 == len(shop.searches)
    assert sorted(played.events) == sorted(sent)
    assert len(set(sent)) == len(sent)
    assert played.settle() == 0


def test_events_are_ubi_that_ingestion_reads() -> None:
    """Each message decodes to the kind, document, rank and dwell that it was sent for."""
    inbox = Inbox()
    perform(Shop(), inbox)
    decoder = Decoder(Signals(), lambda text: text, 1_000_000)
    decoded = [decoder.event(message) for message in inbox.messages]
    assert {event.kind for event in decoded} == {Kind.CLICK, Kind.DWELL, Kind.THUMBS_UP, Kind.THUMBS_DOWN}
    for event, raw in zip(decoded, inbox.events, strict=True):
        assert event.doc_id == raw["event_attributes"]["object"]["object_id"]
        assert event.rank == raw["event_attributes"]["position"]["ordinal"]
        assert (event.dwell_ms is not None) == (event.kind is Kind.DWELL)
        assert event.client_key == raw["client_id"]


def test_the_clock_is_the_callers() -> None:
    """Events bear the time that the given clock shows, so that weeks can be played in seconds."""
    inbox = Inbox()
    perform(Shop(), inbox, now_ms=lambda: 1_700_000_000_123)
    assert {event["timestamp"] for event in inbox.events} == {"2023-11-14T22:13:20.123+00:00"}


def test_people_click_high_and_relevant() -> None:
    """The first rank gets most clicks, and answers get far more than their share."""
    shop, inbox = Shop(), Inbox()
    perform(shop, inbox, sessions=3_000)
    clicks = [event for event in inbox.events if event["action_name"] == "click"]
    ranks = Counter(event["event_attributes"]["position"]["ordinal"] for event in clicks)
    assert ranks[1] > ranks[3] > ranks[10]
    query_of = {f"page-{session}": query for session, query in shop.sessions.items()}
    answers = [e["event_attributes"]["object"]["object_id"] == answer(query_of[e["query_id"]]) for e in clicks]
    assert sum(answers) > 0.3 * len(answers)  # one hit in ten is an answer


def test_users_are_heavy_tailed() -> None:
    """The busiest tenth of the users does far more than a tenth of the searches, and no one does most of them."""
    shop = Shop()
    perform(shop, Inbox(), sessions=3_000)
    searches = sorted(Counter(client for _, client in shop.searches).values(), reverse=True)
    assert sum(searches[:20]) > 0.2 * 3_000
    assert searches[0] < 0.1 * 3_000


def test_a_failed_search_is_tried_again() -> None:
    """A server that is away for a moment costs retries, and no session."""
    shop = Shop(failures=2)
    played = perform(shop, Inbox(), sessions=20)
    assert played.retries == 2
    assert len(played.pages) == 20


def test_lost_events_are_counted() -> None:
    """An event that was not acknowledged is reported as failed, not as sent and safe."""
    inbox = Inbox(failures=3)
    assert perform(Shop(), inbox).settle() == 3


def test_progress_reaches_the_end() -> None:
    """Progress ends with all sessions, whatever the threads do."""
    steps: list[tuple[int, int]] = []
    perform(Shop(), Inbox(), sessions=101, progress=lambda done, total: steps.append((done, total)))
    assert (101, 101) in steps
    assert {total for _, total in steps} == {101}
