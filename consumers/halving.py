"""Finds the one record that a store refuses: cuts a batch in two, and puts a dead letter in a record's place. Pure."""

from __future__ import annotations

from flywheel.events import Batch, Coordinates, DeadLetter


def coordinates(batch: Batch) -> list[Coordinates]:
    """Where its records and dead letters come from, in the order of their logs."""
    found = [at for records in (batch.queries, batch.events, batch.documents, batch.dead_letters) for at, _ in records]
    return sorted(set(found), key=lambda at: (at.topic, at.partition, at.offset))


def halve(batch: Batch) -> tuple[Batch, Batch]:
    """The first and the second half. Stored one after the other they leave what the whole batch would have."""
    places = coordinates(batch)
    first = set(places[: len(places) // 2])
    halves = _part(batch, first), _part(batch, set(places) - first)
    waiting = {(at.topic, at.partition) for at in coordinates(halves[1])}
    for at in first:
        place = (at.topic, at.partition)
        reached = at.offset + 1 if place in waiting else batch.next_offsets[place]
        halves[0].next_offsets[place] = max(reached, halves[0].next_offsets.get(place, 0))
    halves[1].next_offsets.update(batch.next_offsets)
    return halves


def set_aside(batch: Batch, letter: DeadLetter) -> Batch:
    """The batch of one record with a dead letter in its place."""
    (at,) = coordinates(batch)
    return Batch(dead_letters=[(at, letter)], next_offsets=dict(batch.next_offsets))


def _part(batch: Batch, wanted: set[Coordinates]) -> Batch:
    return Batch(
        queries=[(at, record) for at, record in batch.queries if at in wanted],
        events=[(at, record) for at, record in batch.events if at in wanted],
        documents=[(at, record) for at, record in batch.documents if at in wanted],
        dead_letters=[(at, letter) for at, letter in batch.dead_letters if at in wanted],
    )
