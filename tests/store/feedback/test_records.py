"""What became of records: pages put together, fields left out, letters read again, and all of it to be looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.decode import Decoder
from flywheel.daemon.intake.records import Records
from flywheel.daemon.intake.suggest import suggest
from flywheel.events import Batch, Coordinates, DeadLetter, Document, Ignored, Kind
from flywheel.settings.load import Kafka, Signals
from flywheel.store import Store
from flywheel.store.feedback.letters import Wanted
from tests.store.make import HOUR, NOW, batch, event, query, rows

EMPTY: dict[str, Any] = {"hit_ids": (), "model_version": None}
EVENTS = Kafka().topic_events


def click(number: int, **fields: Any) -> bytes:
    sent = {"action_name": "click", "query_id": "q", "timestamp": NOW, "event_id": f"e{number}"} | fields
    return json.dumps(sent).encode()


@pytest.mark.parametrize("apart", [False, True])
def test_several_records_of_one_page_are_one_page_and_its_hits_win(store: Store, apart: bool) -> None:
    """A first record without hits, as a facet's is, takes nothing from the page, in one batch or in several; what was
    published already is published anew."""
    facet = query("q1", hit_ids=(), client_key="c", text="toner")
    page = query("q1", ts_ms=NOW + 5, hit_ids=("a", "b"), client_key=None, model_version="v1", text="printer toner")
    again = query("q1", ts_ms=NOW + 9, hit_ids=("x",))
    parts = [[facet], [page], [again]] if apart else [[facet, page, again]]
    merged = 0
    for start, part in enumerate(parts):
        merged += store.feedback.ingest(batch(queries=part, start=10 * start), "c", NOW).merged
        store.analytics.publish(NOW + start)
    found = rows(store, "SELECT query_id, text, hit_ids, client_key, model_version FROM queries")
    assert found == [("q1", "printer toner", ["a", "b"], "c", "v1")]
    assert store.sql.query("SELECT count(*) AS n FROM impressions").to_pylist() == [{"n": 2}]
    assert merged == (1 if apart else 2)
    counts = store.feedback.counts()
    assert counts["queries"] + counts["merged"] + counts["duplicates"] == 3


def test_a_repeat_is_no_other_record(store: Store) -> None:
    """The same record again is a duplicate and merges nothing; the same id days later is another page."""
    page = query("q1", hit_ids=("a",))
    done = store.feedback.ingest(batch(queries=[page, page]), "c", NOW)
    assert (done.queries, done.merged, done.duplicates) == (1, 0, 1)
    later = replace(page, timestamp_ms=NOW + 100 * HOUR, hit_ids=("b",))
    assert store.feedback.ingest(batch(queries=[later], start=5), "c", NOW).queries == 1
    assert rows(store, "SELECT count(*) FROM queries") == [(2,)]


def test_every_record_is_counted_somewhere(store: Store) -> None:
    """Stored, repeated, merged, superseded or set aside: an older version of a document counts too."""
    documents = [Document("d", "t", "x", NOW + n) for n in (5, 3, 9)] + [Document("e", "t", "x", NOW)]
    made = batch(queries=[query("q1"), query("q1", hit_ids=())], events=[event("e1")] * 3, documents=documents)
    made.dead_letters.append((Coordinates("broken", 0, 0), DeadLetter(b"", "why", NOW)))
    store.feedback.ingest(made, "c", NOW)
    store.feedback.ingest(batch(documents=[Document("d", "t", "x", NOW)], start=9), "c", NOW)
    counts = store.feedback.counts()
    counts.pop("ignored")
    assert sum(counts.values()) == 2 + 3 + 5 + 1
    assert (counts["documents"], counts["superseded"]) == (2, 3)


def test_fields_left_out_are_counted_by_sender_field_and_reason(store: Store) -> None:
    """In slots of ten minutes, with the latest sample, once each record, and not for what is stored already."""
    odd = (Ignored("event_attributes.position.ordinal", "is not a number", "N/A"),)
    made = [event(f"e{n}", ignored=odd, application="shop") for n in range(3)] + [event("e9")]
    for _ in range(2):
        store.feedback.ingest(batch(events=made), "c", NOW)
    assert rows(store, "SELECT topic, application, field, reason, records, sample FROM ignored_fields") == [
        ("ubi.events", "shop", odd[0].field, odd[0].reason, 3, "N/A")
    ]
    assert store.feedback.counts()["ignored"] == 3


def test_the_last_hour_is_shown_with_what_was_left_out_and_set_aside(store: Store) -> None:
    """By sender, kind, field and reason, with samples; what is older is not shown."""
    odd = (Ignored("application", "is no text", "[1]"),)
    made = batch(
        queries=[query("q1", application="shop")],
        events=[event("e1", ignored=odd), event("e2", kind=Kind.OTHER), event("e3", kind=Kind.OTHER)],
        documents=[Document("d", "t", "x", NOW)],
        letters=[b"broken"],
    )
    store.feedback.ingest(batch(events=[event("old")], start=0), "c", NOW - 3 * HOUR)
    store.feedback.ingest(made, "d", NOW)
    found = store.arrivals.since(NOW - HOUR)
    assert sorted((row["outcome"], str(row["kind"]), row["records"]) for row in found) == [
        ("left out", "None", 1), ("set aside", "None", 1), ("stored", "click", 1), ("stored", "document", 1),
        ("stored", "other", 2), ("stored", "page", 1),
    ]  # fmt: skip
    (page,) = [row for row in found if row["kind"] == "page"]
    assert (page["application"], page["sample"]) == ("shop", "q1")
    assert store.arrivals.unknown(NOW - HOUR) == {"other": 2}
    store.analytics.publish(NOW)
    assert store.sql.query("SELECT count(*) AS n FROM arrivals").to_pylist() == [{"n": 7}]


def test_attributes_can_be_asked_in_sql(store: Store) -> None:
    """Segments of pages and events, in the database and in the published folder, also where older files have none."""
    store.feedback.ingest(batch(queries=[query("q0")]), "c", NOW)
    store.analytics.publish(NOW)
    made = [query(f"q{n}", attributes='{"segment": "new", "n": 1}') for n in (1, 2)]
    store.feedback.ingest(batch(queries=made, events=[event("e", attributes='{"page": 2}')], start=3), "c", NOW)
    store.analytics.publish(NOW)
    asked = "SELECT attributes->>'$.segment' AS segment, count(*) AS n FROM queries GROUP BY ALL ORDER BY n"
    assert rows(store, asked) == [(None, 1), ("new", 2)]
    assert store.sql.query(asked).to_pylist() == [{"segment": None, "n": 1}, {"segment": "new", "n": 2}]
    assert store.sql.query("SELECT (attributes->'page')::INT AS page FROM feedback").to_pylist() == [{"page": 2}]


def letters(values: list[bytes], topic: str = EVENTS) -> Batch:
    made = Batch()
    for number, value in enumerate(values):
        letter = DeadLetter(value, "was not read", NOW, "timestamp", b"key", NOW)
        made.dead_letters.append((Coordinates(topic, 0, number), letter))
    return made


def test_dead_letters_are_listed_by_reason_and_shown_whole(store: Store) -> None:
    """The most frequent first, each with the latest's place and the beginning of its bytes."""
    store.feedback.ingest(letters([b"a", b"b\xff"]), "c", NOW)
    store.feedback.ingest(letters([b"x"], "other"), "c", NOW)
    first, second = store.dead_letters.summary(Wanted(), 10)
    assert (first["letters"], first["field"], first["sample"]) in {(2, "timestamp", "a"), (2, "timestamp", "b\\xff")}
    assert (second["topic"], second["latest"]) == ("other", {"topic": "other", "partition": 0, "offset": 0})
    assert store.dead_letters.summary(Wanted(reason="NOT READ", topic="other"), 10) == [second]
    assert store.dead_letters.summary(Wanted(field="x"), 10) == []
    (shown,) = store.dead_letters.at(Coordinates(EVENTS, 0, 1))
    assert (shown["payload"], shown["key"], shown["replayed_at"]) == ("b\\xff", "key", None)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 3))
def test_replay_stores_each_letter_once(tmp_path: Path, good: list[bool], times: int) -> None:
    """However often it is called, and although the event was sent again meanwhile; what cannot be read still waits."""
    name = f"{len(list(tmp_path.iterdir()))}.duckdb"
    with Store.open(tmp_path / name, memory_gb=0.5, threads=1) as store:
        records = Records(store, Decoder(Signals(), str, 10_000), Kafka())
        store.feedback.ingest(letters([click(n) if fine else b"{" for n, fine in enumerate(good)]), "c", NOW)
        answers = [records.replay(Wanted(), NOW) for _ in range(times)]
        assert sum(answer["stored"] for answer in answers) == sum(good)
        assert [answer["still"] for answer in answers] == [good.count(False)] * times
        found = rows(store, "SELECT event_id FROM feedback ORDER BY event_id")
        assert found == sorted((f"e{n}",) for n, fine in enumerate(good) if fine)
        assert store.dead_letters.waiting() == good.count(False)


def test_a_mended_setting_brings_back_what_it_refused(store: Store) -> None:
    """A mapping that came later reads what was set aside; a deletion keeps its key; another topic is left alone."""
    foreign = json.dumps({"event": "click", "search": "q1", "at": NOW}).encode()
    kafka = Kafka()
    store.feedback.ingest(letters([foreign]), "c", NOW)
    store.feedback.ingest(letters([b""], kafka.topic_documents), "c", NOW)
    store.feedback.ingest(letters([click(1)], "gone"), "c", NOW)
    from flywheel.settings.load import Mapping

    plain = Records(store, Decoder(Signals(), str, 10_000), kafka)
    assert plain.replay(Wanted(topic=EVENTS), NOW)["stored"] == 0
    mapping = Mapping(events={"action_name": "event", "query_id": "search", "timestamp": "at"})
    mended = Records(store, Decoder(Signals(), str, 10_000, mapping), kafka)
    answer = mended.replay(Wanted(), NOW)
    assert (answer["stored"], answer["still"]) == (2, 1)
    assert "none of those that are read now" in next(iter(answer["reasons"]))
    assert rows(store, "SELECT query_id, kind FROM feedback") == [("q1", "click")]
    assert rows(store, "SELECT doc_id, deleted FROM documents") == [("key", True)]


def test_what_foreign_actions_may_mean_is_suggested_and_never_assumed() -> None:
    """Familiar words are mapped in a line that the settings take; others are left open."""
    seen = {"item_click": 11, "productHover": 3, "declined_product": 5, "Add to basket": 2, "product_sort": 56}
    assert suggest(seen) == (
        'action_names = {"item_click" = "click", "declined_product" = "thumbs_down", "Add to basket" = "add_to_cart"}'
    )
    assert suggest({"zoom": 1}) is None
