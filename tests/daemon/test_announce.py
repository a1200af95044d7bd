"""Each switch of the champion stands on the models topic exactly once, whatever dies in between."""

from __future__ import annotations

import json
from concurrent.futures import Future
from typing import Any

import pytest

from flywheel.daemon.announce import Announcer
from flywheel.store.evaluation.decisions import Decision


class Outbox:
    """A list of decisions, some of them marked."""

    def __init__(self, *decision_ids: str) -> None:
        self.waiting = [
            Decision(name, "promote", "v1", "flywheel", 1_000, alias="champion", reasons=("better",))
            for name in decision_ids
        ]

    def unannounced(self) -> list[Decision]:
        return list(self.waiting)

    def mark_announced(self, decision_id: str, now_ms: int) -> bool:
        self.waiting = [item for item in self.waiting if item.decision_id != decision_id]
        return True


class Topic:
    """What the broker holds; `broken` makes the next send fail."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []
        self.broken = False

    def send(self, key: bytes, value: bytes) -> Future[None]:
        future: Future[None] = Future()
        if self.broken:
            future.set_exception(ConnectionError("broker gone"))
        else:
            self.values.append(json.loads(value))
            future.set_result(None)
        return future

    def ids(self) -> set[str]:
        return {value["decision_id"] for value in self.values}


def announcer(outbox: Outbox, topic: Topic) -> Announcer:
    return Announcer(outbox, topic.send, topic.ids, index_of=lambda _: "space", now_ms=lambda: 2_000)


def test_what_waits_is_sent_in_order_and_once() -> None:
    """Two steps send each decision once, with what a loader needs."""
    outbox, topic = Outbox("one", "two"), Topic()
    telling = announcer(outbox, topic)
    assert (telling.step(), telling.step()) == (2, 0)
    assert [value["decision_id"] for value in topic.values] == ["one", "two"]
    assert topic.values[0].items() >= {"version": "v1", "index_id": "space", "alias": "champion"}.items()


def test_a_crash_between_sending_and_marking_does_not_announce_twice() -> None:
    """A new process that finds the decision on the topic marks it and sends nothing."""
    outbox, topic = Outbox("one"), Topic()
    topic.values.append({"decision_id": "one"})
    assert announcer(outbox, topic).step() == 0
    assert not outbox.waiting
    assert len(topic.values) == 1


def test_a_broker_that_is_gone_leaves_the_decision_waiting() -> None:
    """Nothing is marked until the broker has it."""
    outbox, topic = Outbox("one"), Topic()
    topic.broken = True
    telling = announcer(outbox, topic)
    with pytest.raises(ConnectionError):
        telling.step()
    assert outbox.waiting
    topic.broken = False
    assert telling.step() == 1
