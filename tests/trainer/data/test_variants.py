"""Variants: texts made of queries that are replayed, where the model stays with the champion as well."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from flywheel.retrieval.encoder import Encoder
from tests.trainer.collection import FAULTS, JARGON, pairs, snapshot
from trainer.__main__ import train
from trainer.data import examples
from trainer.data.dataset import read_snapshot
from trainer.data.variants import variants

QUERIES = ["the quick brown fox", "jumps over lazy dogs", "single"]


def test_variants_are_made_of_the_words_of_their_texts() -> None:
    """Each is distinct, not empty, made of words of at most two texts, and the same seed makes the same."""
    made = variants(QUERIES, count=30, seed=3)
    assert 10 <= len(made) == len(set(made)) <= 30
    assert made == variants(QUERIES, count=30, seed=3) != variants(QUERIES, count=30, seed=4)
    known = [set(query.split()) for query in QUERIES]
    for text in made:
        words = set(text.split())
        assert words
        assert any(words <= one | other for one in known for other in known)
    assert any("quick" in text and "jumps" in text for text in made)
    assert variants([], count=5, seed=0) == [] == variants(QUERIES, count=0, seed=0)


def halves() -> pa.Table:
    """The first four machines' queries are replayed, those of the others new."""
    old = [row["query"].split()[0] in JARGON[:4] for row in pairs().to_pylist()]
    source = pa.array(["replay" if replayed else "new" for replayed in old])
    return pairs().set_column(pairs().column_names.index("source"), "source", source)


def test_only_what_is_replayed_has_variants_and_they_teach_nothing(tmp_path: Path) -> None:
    """They join every step beside its own queries, of a quarter of its size, and new queries have none."""
    here = read_snapshot(snapshot(tmp_path / "s", pairs=halves(), dev_share=0.0, batch_size=8))
    assert not len(examples.plan(here, steps=5).examples.variants)
    plan = examples.plan(here, steps=5, variants=6)
    made = plan.examples.variants
    assert [len(set(made.tolist()) & set(step.tolist())) for step in plan.steps] == [2] * 5
    assert plan.examples.weight[made].tolist() == [0] * len(made)
    words = {word for row in made for word in plan.examples.queries[row].split()}
    assert words & set(JARGON[:4])
    assert not words & set(JARGON[4:])


def test_between_replayed_queries_the_model_stays_with_its_champion(tmp_path: Path) -> None:
    """Of queries like the replayed ones, but never replayed, those of a run with variants move less."""
    asked = [f"{fault} {word}" for word in JARGON[:4] for fault in FAULTS]
    before, found = Encoder.load("auto", device="cpu").encode_queries(asked), []
    for count in (0, 6):
        folder = tmp_path / str(count)
        made = snapshot(folder / "s", pairs=halves(), variants=count, merge=1.0, steps=20)
        train(read_snapshot(made), folder / "m")
        after = Encoder.load(folder / "m", device="cpu").encode_queries(asked)
        found.append(float(1 - (before * after).sum(axis=1).mean()))
    assert found[1] < 0.85 * found[0]
