"""The page log: bounded, in order, and honest about what it lost."""

from __future__ import annotations

import asyncio

import msgspec

from flywheel.serving.endpoints.pages import PageLog, record
from flywheel.serving.served import Hit, Page
from tests.serving.house import MemoryBroker


def page(number: int) -> Page:
    return Page(f"q{number}", "text", 1_700_000_000_123, 1.23456, "base", "space", (Hit("d", 0.5, "title"),))


def test_a_page_is_a_ubi_query_without_nulls() -> None:
    """Only what is known is sent, and times are ISO 8601 in UTC."""
    assert record(page(1)) == {
        "application": "flywheel",
        "query_id": "q1",
        "user_query": "text",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "query_response_hit_ids": ["d"],
        "query_attributes": {"model_version": "base", "index_id": "space", "latency_ms": 1.235},
    }


def test_a_full_spool_loses_visibly_and_keeps_what_it_has() -> None:
    """Beyond its bound new pages are counted as lost; those inside arrive in order once the broker is back."""

    async def scene() -> tuple[list[bool], dict[str, int], list[str]]:
        broker = MemoryBroker(down=True)
        log = PageLog(broker, timeout_ms=5, spool_pages=2)
        log.start()
        known = [await log.log(page(number)) for number in range(4)]
        broker.down = False
        await log.stop(5.0)
        return known, dict(log.counts()), [msgspec.json.decode(p)["query_id"] for p in broker.held["queries"]]

    known, counts, held = asyncio.run(scene())
    assert (known, held) == ([False] * 4, ["q0", "q1"])
    assert counts == {"logged": 2, "late": 2, "lost": 2}


def test_stopping_without_a_broker_ends_in_time_and_says_what_is_lost() -> None:
    """The grace is a bound, and what is left then is counted."""

    async def scene() -> dict[str, int]:
        log = PageLog(MemoryBroker(silent=True), timeout_ms=1)
        log.start()
        await log.log(page(1))
        await asyncio.wait_for(log.stop(0.05), 5)
        return dict(log.counts())

    assert asyncio.run(scene())["lost"] == 1


def test_an_acknowledged_page_is_known_as_such() -> None:
    """`log` returns True once the broker has the page."""

    async def scene() -> bool:
        log = PageLog(MemoryBroker(), timeout_ms=5_000)
        log.start()
        return await log.log(page(1))

    assert asyncio.run(scene())


def test_a_page_that_the_broker_never_takes_is_lost_alone_and_at_once() -> None:
    """It counts as lost when it is lost, and the pages behind it arrive."""

    async def scene() -> tuple[dict[str, int], list[str]]:
        broker = MemoryBroker(down=True, most_bytes=1_000)
        log = PageLog(broker, timeout_ms=5)
        log.start()
        large = Page("large", "x" * 2_000, 1_700_000_000_123, 1.0, "base", "space", ())
        for shown in (page(1), large, page(2)):
            await log.log(shown)
        broker.down = False
        async with asyncio.timeout(5):
            while log.waiting:
                await asyncio.sleep(0.01)
        counts = dict(log.counts())
        await log.stop(1.0)
        return counts, [msgspec.json.decode(p)["query_id"] for p in broker.held["queries"]]

    counts, held = asyncio.run(scene())
    assert counts == {"logged": 2, "late": 3, "lost": 1}
    assert held == ["q1", "q2"]
