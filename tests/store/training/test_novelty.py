"""What there is to learn, counted before anybody learns it."""

from __future__ import annotations

from flywheel.events import Document, Kind
from flywheel.store import Store
from flywheel.store.training.novelty import Novelty
from tests.store.make import HOUR, NOW, batch, event, query


def test_only_what_can_be_learned_is_new(store: Store) -> None:
    """Acts on documents that are gone start no run, and neither do acts outside the window or a thumb down."""
    store.feedback.ingest(
        batch(
            queries=[query("q1")],
            documents=[Document("d1", "", "here", NOW), Document("d2", "", "gone", NOW, deleted=True)],
            events=[
                event("e1"),
                event("e2", doc_id="d2"),
                event("e3", doc_id="d3", kind=Kind.ADD_TO_CART),
                event("e4", doc_id="d4", kind=Kind.THUMBS_DOWN),
                event("e5", doc_id="d5", ts_ms=NOW - HOUR),
            ],
        ),
        "cluster",
        NOW,
    )
    assert Novelty(store.database).new_pairs(NOW - 1, NOW) == 2
