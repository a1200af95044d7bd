from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flywheel.clicks.evidence import Collected
from flywheel.events import Batch, Coordinates, Event, Kind, Query
from flywheel.settings.load import Signals
from flywheel.store.store import Store

DAY_MS = 86_400_000
T0 = 1_760_000_000_000
PLAIN = Signals(half_life_days=1e9, user_cap=1e9, user_share=1.0)


class Shop:
    """Ingests pages and events as a consumer would, numbering offsets and ids; in one batch, when somebody reads."""

    def __init__(self, store: Store) -> None:
        self._store, self.numbers, self._waiting = store, itertools.count(), Batch()

    @property
    def store(self) -> Store:
        """The store, with everything that came so far."""
        if len(self._waiting):
            self._waiting, batch = Batch(), self._waiting
            self._store.feedback.ingest(batch, "cluster", T0)
        return self._store

    def page(
        self, text: str, hits: str, *, user: str | None = None, at: int = T0, version: str = "v0", **more: str
    ) -> str:
        name = f"q{next(self.numbers)}"
        query = Query(name, text, at, user_key=user, hit_ids=tuple(hits), model_version=version, **more)
        self._waiting.queries.append((self._at(), query))
        return query.query_id

    def event(
        self, kind: Kind, page: str, doc: str, *, dwell: int | None = None, rank: int | None = None, at: int = T0 + 9
    ) -> None:
        event = Event(
            f"e{next(self.numbers)}", kind, str(kind), at, query_id=page, doc_id=doc, dwell_ms=dwell, rank=rank
        )
        self._waiting.events.append((self._at(), event))

    def click(self, page: str, docs: str) -> None:
        for doc in docs:
            self.event(Kind.CLICK, page, doc)

    def collect(
        self, signals: Signals = PLAIN, *, until: int = T0 + DAY_MS, without: tuple[str, ...] = ()
    ) -> Collected:
        return self.store.evidence.collect(until, signals, exclude_keys=without)

    def _at(self) -> Coordinates:
        return Coordinates("t", 0, next(self.numbers))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1) as store:
        yield Shop(store)


def rows(found: Collected) -> dict[tuple[str, str, int, str], tuple[float, float]]:
    """(query, document, rank, documents clicked above in their order) -> (impressions, clicks)."""
    out: dict[tuple[str, str, int, str], tuple[float, float]] = {}
    for (query, document, rank, above, _), counts in detailed(found).items():
        shown, clicked = out.get((query, document, rank, above), (0.0, 0.0))
        out[query, document, rank, above] = (shown + counts[0], clicked + counts[1])
    return out


def detailed(found: Collected) -> dict[tuple[str, str, int, str, int], tuple[float, float]]:
    """The same with the distance from the last click, or the top."""
    e = found.evidence
    named = [(e.queries[q], e.documents[d]) for q, d in zip(e.pair_query, e.pair_document, strict=True)]
    out = {}
    columns = (e.pair, e.rank, e.above, e.distance, e.impressions, e.clicks)
    for pair, rank, above, distance, shown, clicked in zip(*columns, strict=True):
        members = e.set_pairs[e.set_start[above] : e.set_start[above + 1]]
        key = (*named[pair], int(rank), "".join(named[m][1] for m in members), int(distance))
        out[key] = (float(shown), float(clicked))
    return out


def fact(found: Collected, query: str, doc: str, name: str) -> object:
    e = found.evidence
    at = [i for i in range(e.pairs) if (e.queries[e.pair_query[i]], e.documents[e.pair_document[i]]) == (query, doc)]
    return getattr(found.facts, name)[at[0]] if at else None


def test_aggregates_equal_a_count_by_hand_of_random_pages(shop: Shop) -> None:
    """The SQL counts what a plain loop counts, with the clicks above each result in order and how far the last is."""
    rng = np.random.default_rng(3)
    expected: dict[tuple[str, str, int, str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for _ in range(60):
        text, hits = f"query {rng.integers(3)}", "".join(rng.permutation(list("abcdef"))[: rng.integers(1, 6)])
        clicked = {doc for doc in hits if rng.random() < 0.3}
        page = shop.page(text, hits, user=f"u{rng.integers(30)}")
        shop.click(page, "".join(clicked))
        for rank, doc in enumerate(hits, start=1):
            above = "".join(hit for hit in hits[: rank - 1] if hit in clicked)
            key = (text, doc, rank, above, rank - (hits.index(above[-1]) + 1 if above else 0))
            expected[key][0] += 1
            expected[key][1] += doc in clicked
    assert detailed(shop.collect()) == {key: tuple(value) for key, value in expected.items()}


def test_pages_that_log_impressions_as_events_count_at_their_ranks(shop: Shop) -> None:
    """A page without hit_ids is known by its impression events, gaps in the ranks and all."""
    page = shop.page("shoes", "")
    for doc, rank in (("a", 1), ("b", 4)):
        shop.event(Kind.IMPRESSION, page, doc, rank=rank)
    shop.click(page, "b")
    assert rows(shop.collect()) == {("shoes", "a", 1, ""): (1, 0), ("shoes", "b", 4, ""): (1, 1)}


def test_evidence_halves_with_event_time(shop: Shop) -> None:
    """A page one half life before the end of the window counts half."""
    shop.click(shop.page("shoes", "a", at=T0 - 10 * DAY_MS), "a")
    found = shop.collect(Signals(half_life_days=10), until=T0 + 9)
    assert rows(found)["shoes", "a", 1, ""] == pytest.approx((0.5, 0.5), abs=1e-5)


def test_what_came_after_the_window_is_not_seen(shop: Shop) -> None:
    """A click later than the end counts as no click yet, a later page not at all."""
    shop.click(shop.page("shoes", "a"), "a")
    shop.page("shoes", "a", at=T0 + 8)
    assert rows(shop.collect(until=T0 + 1)) == {("shoes", "a", 1, ""): (1, 0)}


def test_one_user_is_capped_and_others_are_not(shop: Shop) -> None:
    """Ten pages of one user weigh as much as the cap, and ten users' pages weigh ten."""
    for number in range(10):
        shop.click(shop.page("shoes", "ab", user="fan"), "a")
        shop.page("boots", "ab", user=f"user {number}")
    found = rows(shop.collect(Signals(half_life_days=1e9, user_cap=3, user_share=1.0)))
    assert found["shoes", "a", 1, ""] == pytest.approx((3, 3), abs=1e-4)
    assert found["boots", "a", 1, ""] == pytest.approx((10, 0), abs=1e-4)


def test_no_user_carries_more_than_a_share_of_a_query(shop: Shop) -> None:
    """A user with 3 of 10 pages is brought to the share of 20 %, and one page always counts whole."""
    for number in range(10):
        shop.page("shoes", "a", user="fan" if number < 3 else f"user {number}")
    assert rows(shop.collect(Signals(half_life_days=1e9, user_cap=99, user_share=0.2)))["shoes", "a", 1, ""][
        0
    ] == pytest.approx(9, abs=1e-3)


def test_a_session_is_a_person_where_nothing_else_is_known(shop: Shop) -> None:
    """Sessions without user and client have the same cap, are bots by the same marks, and vote once."""
    for _ in range(10):
        shop.event(Kind.THUMBS_UP, shop.page("shoes", "abc", session_id="s1"), "a")
    for number in range(300):
        shop.page(f"query {number % 8}", "abc", session_id="crawler", at=T0 + number)
    found = shop.collect(Signals(half_life_days=1e9, user_cap=3, user_share=1.0))
    assert fact(found, "shoes", "a", "thumbs_up") == 1
    assert found.evidence.pair_impressions().sum() == pytest.approx(9)
    assert [user.user_key for user in found.excluded] == ["crawler"]


def test_a_page_without_words_is_nobodys_query(shop: Shop) -> None:
    """What was browsed, or asked with signs alone, teaches no query."""
    for text in ("", "?!...", "shoes"):
        shop.click(shop.page(text, "abc"), "a")
    assert shop.collect().evidence.queries == ("shoes",)


def test_golden_queries_never_enter(shop: Shop) -> None:
    """A query whose normalised text is excluded leaves no row, however it was typed."""
    shop.click(shop.page("Red  SHOES?", "ab"), "a")
    shop.click(shop.page("boots", "ab"), "a")
    found = shop.collect(without=("red shoes",))
    assert found.evidence.queries == ("boots",)


def test_late_feedback_changes_the_next_collection(shop: Shop) -> None:
    """A dwell that arrives after the first collection turns a bare click into a satisfied one."""
    page = shop.page("shoes", "ab")
    shop.click(page, "a")
    assert fact(shop.collect(), "shoes", "a", "satisfied") == 0
    shop.event(Kind.DWELL, page, "a", dwell=60_000, at=T0 + 70_000)
    later = shop.collect()
    assert fact(later, "shoes", "a", "satisfied") == 1
    assert later.evidence.satisfied.tolist() == [1, 0]
    assert rows(later)["shoes", "a", 1, ""] == (1, 1)


def test_dwell_thresholds_come_from_the_dwells_themselves(shop: Shop) -> None:
    """People who leave after 0.6 s or read for 6 s bounce and are satisfied, though the settings ask for 5 and 30 s."""
    rng = np.random.default_rng(0)
    for number in range(40):
        page = shop.page(f"query {number % 4}", "abcdefghijklmnopqrstuvwxyz", user=f"u{number}")
        for place, doc in enumerate("abcdefghijklmnopqrstuvwxyz"):
            dwell = (600 if place % 2 else 6_000) * np.exp(0.4 * rng.standard_normal())
            shop.event(Kind.DWELL, page, doc, dwell=int(dwell))
    signals = Signals(half_life_days=1e9, user_cap=1e9, user_share=1.0)
    fixed = shop.collect(signals.model_copy(update={"learn_dwell": False}))
    assert fixed.facts.satisfied.sum() == 0
    found = shop.collect(signals)
    (threshold,) = found.dwell
    assert (threshold.segment, threshold.dwells, threshold.source) == ("unknown document, short query", 1040, "segment")
    shares = found.facts.satisfied / found.facts.clicks
    assert shares[::2].mean() > 0.95 > 0.05 > shares[1::2].mean()
    assert found.evidence.bounced[1::2].sum() > 0.95 * found.evidence.measured[1::2].sum()


def test_explicit_feedback_is_counted_by_people(shop: Shop) -> None:
    """Two votes of one person are one vote, the latest; a purchase implies its click; a vote needs no place."""
    first, second = shop.page("shoes", "ab", user="x"), shop.page("shoes", "ab", user="x", version="v1")
    shop.event(Kind.THUMBS_UP, first, "a", at=T0 + 5)
    shop.event(Kind.THUMBS_DOWN, second, "a", at=T0 + 6)
    shop.event(Kind.PURCHASE, second, "b")
    shop.event(Kind.THUMBS_UP, second, "z")
    found = shop.collect()
    assert [fact(found, "shoes", "a", name) for name in ("thumbs_up", "thumbs_down")] == [0, 1]
    assert [fact(found, "shoes", "b", name) for name in ("purchases", "clicks", "users")] == [1, 1, 1]
    assert [fact(found, "shoes", "z", name) for name in ("thumbs_up", "impressions")] == [1, 0]
    assert fact(found, "shoes", "a", "model_versions") == ("v0", "v1")


def test_clicks_on_what_the_page_does_not_list_count_for_nothing(shop: Shop) -> None:
    """A forged click on a document that was not shown makes no evidence, and is counted as unplaced."""
    shop.click(shop.page("shoes", "ab"), "z")
    found = shop.collect()
    assert "z" not in found.evidence.documents
    assert found.unplaced_clicks == 1


def test_a_document_listed_twice_is_shown_once(shop: Shop) -> None:
    """Of two passages of a document the upper one counts; the click is its click, and the other is no skip."""
    shop.click(shop.page("shoes", "abab"), "b")
    assert rows(shop.collect()) == {("shoes", "a", 1, ""): (1, 0), ("shoes", "b", 2, ""): (1, 1)}


def test_the_same_data_give_the_same_evidence(shop: Shop) -> None:
    """Two collections are equal in every column, so that a repeated run trains on the same pairs."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        shop.click(shop.page(f"query {rng.integers(4)}", "abcdef", user=f"u{rng.integers(9)}"), "abc"[rng.integers(3)])
    first, second = shop.collect(Signals()), shop.collect(Signals())
    for name in first.evidence.__dataclass_fields__:
        assert np.array_equal(getattr(first.evidence, name), getattr(second.evidence, name)), name


def test_nothing_yet_is_empty_evidence(shop: Shop) -> None:
    """A new home has no evidence, and that is no error."""
    found = shop.collect()
    assert (found.evidence.pairs, len(found.evidence.pair), found.texts) == (0, 0, ())


def test_votes_carts_and_purchases_age_as_clicks_do(shop: Shop) -> None:
    """After one half-life and after two, each person's vote, cart and purchase weighs what the page's click does."""
    signals = Signals(half_life_days=1.0, user_cap=1e9, user_share=1.0)
    for age, user in ((0, "new"), (1, "old"), (2, "older")):
        page = shop.page("shoes", "ab", user=user, at=T0 - age * DAY_MS)
        for kind in (Kind.CLICK, Kind.ADD_TO_CART, Kind.PURCHASE, Kind.THUMBS_UP):
            shop.event(kind, page, "a", at=T0 - age * DAY_MS + 1)
        shop.event(Kind.THUMBS_DOWN, page, "b", at=T0 - age * DAY_MS + 1)
    found = shop.collect(signals, until=T0)
    weights = found.facts.explicit()
    clicks = found.evidence.pair_clicks()[0]
    assert clicks == pytest.approx(0.75)  # the newest acts are later than `until`, so that the newest page has none
    for left, place in ((weights.carts, 0), (weights.purchases, 0), (weights.up, 0), (weights.down, 1)):
        assert left[place] == pytest.approx(0.75)
    assert found.facts.purchases.tolist() == [2, 0]


def test_a_person_who_buys_again_counts_once_by_the_latest_page(shop: Shop) -> None:
    """Two purchases of one person are one, as old as the newer."""
    signals = Signals(half_life_days=1.0, user_cap=1e9, user_share=1.0)
    for age in (1, 3):
        page = shop.page("shoes", "a", user="anna", at=T0 - age * DAY_MS)
        shop.event(Kind.PURCHASE, page, "a", at=T0 - age * DAY_MS)
    assert shop.collect(signals, until=T0).facts.explicit().purchases.tolist() == [0.5]


def test_without_dwells_what_people_do_next_ends_a_click(shop: Shop) -> None:
    """Who is back after two seconds, or asks anew, bounced; who is not seen for half an hour was satisfied."""
    for number in range(40):
        at = T0 + number * 7_200_000
        page = shop.page("shoes", "abc", user=f"u{number % 5}", at=at)
        shop.event(Kind.CLICK, page, "a", at=at + 1_000)
        shop.event(Kind.CLICK, page, "b", at=at + 3_000 + number)
        again = shop.page("red shoes", "cd", user=f"u{number % 5}", at=at + 8_000 + number)
        shop.event(Kind.CLICK, again, "d", at=at + 90_000)
    found = shop.collect(until=T0 + 40 * 7_200_000)
    ends = {
        (found.evidence.queries[q], found.evidence.documents[d]): (m, s, b)
        for q, d, m, s, b in zip(
            found.evidence.pair_query, found.evidence.pair_document, found.evidence.measured,
            found.evidence.satisfied, found.evidence.bounced, strict=True,
        )
    }  # fmt: skip
    assert ends["shoes", "a"] == (40, 0, 40)
    assert ends["shoes", "b"] == (40, 0, 0)
    assert ends["red shoes", "d"] == (40, 40, 0)
    assert {limit.source for limit in found.dwell} == {"quarters"}
    assert fact(found, "red shoes", "d", "satisfied") == 0  # no dwell was measured, and none is claimed


def test_a_person_who_cannot_be_followed_is_followed_on_the_page(shop: Shop) -> None:
    """Clicks of nobody in particular end with the next click of their own page, never with another page's."""
    for _ in range(60):
        page = shop.page("shoes", "abc", at=T0)
        shop.event(Kind.CLICK, page, "a", at=T0 + 1_000)
        shop.event(Kind.CLICK, page, "b", at=T0 + 2_000)
    found = shop.collect().evidence
    assert (found.bounced[0], found.satisfied[1]) == (60, 60)
