"""The world of `benchmarks/learning.py`: what it calls perfect labels, precision and coverage is what it says."""

from __future__ import annotations

import pyarrow as pa

from benchmarks.forgetting import Domain, phases
from benchmarks.learning_world import Searchers, graded_pairs, labelled
from benchmarks.references import positives
from flywheel.files.beir import Judged

JUDGED = Judged(("1", "2"), ("shallow copy", "read a file"), ({"a": 1.0, "b": 1.0, "z": 0.0}, {"c": 2.0}))
PAGES = [["a", "x", "y"], ["x", "y", "a"]]


def people(habit: str = "pbm") -> Searchers:
    return Searchers(JUDGED, habit, sessions=200, seed=0)  # type: ignore[arg-type]


def test_perfect_labels_are_the_relevant_pairs_and_no_others() -> None:
    """A grade of 0 is no relevance, and nothing else becomes a positive."""
    world = people()
    found = positives(labelled(world.everything(), world.relevant))
    assert found == {("shallow copy", "a"), ("shallow copy", "b"), ("read a file", "c")}


def test_coverage_counts_relevant_pairs_that_a_page_has_shown() -> None:
    """Of three relevant pairs the pages show one; shown again it counts once."""
    world = people()
    assert world.coverage() == 0
    world.search(PAGES, 0)
    world.search(PAGES, 1)
    assert world.coverage() == 1 / 3


def test_precision_and_recall_are_of_the_positives() -> None:
    """One right and one wrong positive of three relevant pairs; ambiguous pairs count for nothing."""
    columns = {"query_key": ["shallow copy", "read a file", "read a file"], "doc_id": ["a", "a", "c"]}
    pairs = pa.table({**columns, "label": ["positive", "positive", "ambiguous"]})
    assert people().precision_recall(pairs) == (1 / 2, 1 / 3)


def test_a_poisoned_query_is_one_that_the_colluders_document_does_not_answer() -> None:
    """Both pages show "a"; it answers one query, so it can poison the other alone, and does as a positive only."""
    world = people("poison")
    world.search(PAGES, 0)
    columns = {"query_key": ["shallow copy", "read a file"], "doc_id": ["a", "a"]}
    labels = (["positive", "positive"], ["positive", "ambiguous"])
    assert [world.poisoned(pa.table({**columns, "label": label})) for label in labels] == [(1, 1), (0, 1)]


def test_every_click_is_on_the_page_that_its_query_was_answered_with() -> None:
    """Events name a document at the rank where its page shows it, and no id comes twice over rounds."""
    world = people("poison")
    records = [*world.search(PAGES, 0), *world.search(PAGES, 1)]
    pages = {record["query_id"]: record for record in records if "user_query" in record}
    events = [record["event_attributes"] | {"of": record["query_id"]} for record in records if "action_name" in record]
    assert len(pages) == 400
    assert len({event["event_id"] for event in events}) == len(events) > 0
    for event in events:
        hits = pages[event["of"]]["query_response_hit_ids"]
        assert hits[event["position"]["ordinal"] - 1] == event["object"]["object_id"]


def test_grades_up_to_the_floor_are_masked_and_zeros_say_nothing() -> None:
    """With a floor of 2 a grade of 3 is a positive, 1 is ambiguous, 0 is no pair at all."""
    pairs = graded_pairs([("Read a file", {"a": 3.0, "b": 1.0, "c": 0.0}, 2.0)])
    assert dict(zip(pairs.doc_id, pairs.label, strict=True)) == {"a": "positive", "b": "ambiguous"}


def test_rounds_are_shared_out_whole() -> None:
    """Ten rounds over three domains: the one with the most training queries has the fourth."""
    few = Domain("few", JUDGED, JUDGED, judged_only=False, floor=0.0)
    many = Domain("many", Judged(JUDGED.ids * 3, JUDGED.texts * 3, JUDGED.judgements * 3), JUDGED, False, 0.0)
    assert phases([few, many, few], 10) == [3, 4, 3]
