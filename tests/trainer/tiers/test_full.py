"""The tier `full`: which documents meet in a step, what a teacher changes, and a version that plain libraries read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from tests.trainer.collection import documents, pairs, snapshot
from trainer.__main__ import train
from trainer.data import examples
from trainer.data.dataset import read_snapshot
from trainer.fitting import staying
from trainer.fitting.negatives import Negatives
from trainer.fitting.teacher import Teacher
from trainer.tiers.full import groups_of, steps_of

QUERY = "flimbo leaks oil"


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    given = snapshot(
        folder / "s", tier="full", steps=3, batch_size=8, matryoshka=[96], teacher=resolve_base_model("auto")
    )
    train(read_snapshot(given), folder / "m")
    return folder / "m"


def curated(tmp_path: Path) -> examples.StepPlan:
    """A plan of 20 steps over 64 queries, of which eight have a vote besides their click."""
    table = pairs()
    origin = ["explicit" if row < 8 else "clicks" for row in range(len(table))]
    table = table.append_column("origin", pa.array(origin, pa.string()))
    given = read_snapshot(snapshot(tmp_path / "s", tier="full", dev_share=0.0, pairs=table))
    return examples.plan(given, steps=20, batch_size=8, curated_share=0.5)


def test_curated_pairs_come_last(tmp_path: Path) -> None:
    """The last steps draw half of each batch from what people said, at most twice over; no earlier step favours it."""
    plan = curated(tmp_path)
    voted = np.flatnonzero(np.diff(plan.examples.curated.start))
    assert len(voted) == 8
    assert plan.curated_steps == 4  # eight queries, four a step, twice
    share = [float(np.isin(rows, voted).mean()) for rows in plan.steps]
    assert share[-4:] == [0.5] * 4
    assert float(np.mean(share[:-4])) < 0.25
    last = np.concatenate([rows[np.isin(rows, voted)] for rows in plan.steps[-4:]])
    assert (np.bincount(last)[voted] == 2).all()


def test_a_step_holds_each_querys_answer_and_its_own_negatives(tmp_path: Path) -> None:
    """Column i is query i's answer; `hard` names its negatives' columns; the same seed draws the same documents."""
    plan = curated(tmp_path)
    mined = Negatives(
        rejected=[np.array([row], np.int64) for row in range(64)],
        pool=[(row + np.arange(1, 4)) % 64 for row in range(64)],
    )
    groups, again = (groups_of(plan, mined, 2, seed=5, own={}) for _ in range(2))
    for group, same in zip(groups, again, strict=True):
        np.testing.assert_array_equal(group.documents, same.documents)
        for place, row in enumerate(group.queries):
            assert group.documents[place] in plan.examples.targets.of(int(row))
            first, second = group.documents[group.hard[place]]
            assert first == row
            assert (second - row) % 64 in {1, 2, 3}


def test_the_plain_library_reads_it_at_every_length(nested: Path) -> None:
    """One tower for both sides, our vectors, and `truncate_dim` cuts to the length that was trained."""
    _, _, texts = documents()
    ours = Encoder.load(nested, device="cpu")
    plain = SentenceTransformer(str(nested), device="cpu", local_files_only=True)
    found = list(texts.values())[:4]
    assert (ours.encode_documents(found) * plain.encode_document(found)).sum(axis=1).min() > 0.999
    assert (ours.encode_queries([QUERY]) * plain.encode_query([QUERY])).sum(axis=1).min() > 0.999
    cut = SentenceTransformer(str(nested), device="cpu", local_files_only=True, truncate_dim=96)
    assert cut.encode_query([QUERY]).shape == (1, 96)
    np.testing.assert_allclose(cut.encode_query([QUERY]), plain.encode_query([QUERY])[:, :96], atol=1e-5)


def test_a_teacher_is_a_bi_encoder_or_a_cross_encoder(tmp_path: Path) -> None:
    """Cosines times the scale from the one, logits from the other, in the order asked; no folder is refused."""
    base = resolve_base_model("auto")
    asked = [("red wine", "a bottle of wine"), ("red wine", "a poem about rain"), ("rain", "a poem about rain")]
    bi = Teacher(base, scale=20.0, device="cpu")
    model = SentenceTransformer(base, device="cpu", local_files_only=True)
    expected = [20 * float(model.encode(query) @ model.encode(text)) for query, text in asked]
    np.testing.assert_allclose(bi.score(asked), expected, rtol=1e-3)
    CrossEncoder(base, device="cpu", num_labels=1, local_files_only=True).save_pretrained(str(tmp_path / "cross"))
    cross = Teacher(str(tmp_path / "cross"), scale=20.0, device="cpu")
    assert (bi.crosses, cross.crosses) == (False, True)
    scores = cross.score(asked)
    assert scores.shape == (3,)
    np.testing.assert_allclose(cross.score(asked[::-1])[::-1], scores, atol=1e-4)
    with pytest.raises(ValueError, match=r"trainer\.teacher.*no folder of a model"):
        Teacher(str(tmp_path / "none"), scale=20.0, device="cpu")


def test_probes_are_the_tiers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes them of documents that no taught query reaches, and each comes with its document into a step."""
    monkeypatch.setattr(staying, "REACH", 1)
    folder = snapshot(tmp_path / "s", tier="full", steps=8, batch_size=8, asked=("first words of a document",))
    report = train(read_snapshot(folder), tmp_path / "m")
    assert report["queries"]["probes"] > 1
    assert report["merge"] == 1.0  # nothing was learned before


def test_few_steps_are_as_many_as_one_pass_takes(tmp_path: Path) -> None:
    """64 queries in batches of 16 need 4 steps, half of each for replay 8, and at most 8 times what was asked for."""
    given = read_snapshot(snapshot(tmp_path / "s", tier="full", steps=1, dev_share=0.0))
    assert steps_of(given, 16) == 4
    assert steps_of(given, 4) == 8
    replayed = pairs("replay").set_column(0, "query", pa.array([f"old {row}" for row in range(64)], pa.string()))
    both = pa.concat_tables([pairs(), replayed])
    assert steps_of(read_snapshot(snapshot(tmp_path / "b", tier="full", steps=1, dev_share=0.0, pairs=both)), 16) == 8
