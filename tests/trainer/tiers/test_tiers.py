"""Each tier end to end in this process: it learns, plain SentenceTransformer reads it, the document side stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from tests.trainer.collection import FAULTS, JARGON, documents, pairs, snapshot
from trainer.__main__ import train
from trainer.data.dataset import read_snapshot
from trainer.data.recipe import Tier

QUERIES = [f"{word} {fault}" for word in JARGON for fault in FAULTS[:2]]


def version(folder: Path, tier: Tier, **recipe: object) -> Path:
    train(read_snapshot(snapshot(folder / "s", tier=tier, **recipe)), folder / "m")
    return folder / "m"


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version(tmp_path_factory.mktemp("tower"), "query_tower", steps=20)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tower: Path) -> Path:
    return version(tmp_path_factory.mktemp("adapter"), "adapter", champion=str(tower))


def first_hits(path: Path | str) -> float:
    """Share of jargon queries whose first result is a document of the right part."""
    _, vectors, _ = documents()
    found = Encoder.load(path, device="cpu").encode_queries(QUERIES) @ vectors.T
    right = [JARGON.index(query.split()[0]) for query in QUERIES]
    return float(np.mean(found.argmax(axis=1) // len(FAULTS) == right))


@pytest.mark.parametrize("name", ["tower", "adapter"])
def test_the_plain_library_reproduces_our_vectors(name: str, request: pytest.FixtureRequest) -> None:
    """`SentenceTransformer(path)` alone gives our vectors on both sides; plain `encode` is the documents' side."""
    path: Path = request.getfixturevalue(name)
    ours, plain = Encoder.load(path, device="cpu"), SentenceTransformer(str(path), device="cpu", local_files_only=True)
    assert (ours.encode_queries(QUERIES) * plain.encode_query(QUERIES)).sum(axis=1).min() > 0.999
    assert (ours.encode_documents(QUERIES) * plain.encode_document(QUERIES)).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(plain.encode(QUERIES), plain.encode_document(QUERIES), atol=1e-6)
    assert np.abs(plain.encode_query(QUERIES) - plain.encode(QUERIES)).max() > 0.01


@pytest.mark.parametrize("name", ["tower", "adapter"])
def test_the_index_still_fits(name: str, request: pytest.FixtureRequest) -> None:
    """Training the query side leaves the document tower's id and the index's id as they were."""
    path: Path = request.getfixturevalue(name)
    base, ours = Encoder.load("auto", device="cpu", max_seq_length=256), Encoder.load(path, device="cpu")
    manifest = json.loads((path / "flywheel.json").read_text("utf-8"))
    assert ours.document_tower_id == base.document_tower_id == manifest["document_tower_id"]
    assert ours.index_id == base.index_id == manifest["index_id"]
    assert {"version", "parent", "tier", "base_model", "created_at", "run_id", "snapshot_id", "seed"} <= set(manifest)
    assert not [file for file in path.rglob("*") if file.suffix in {".bin", ".pt", ".pkl"}]


def test_each_tier_learns_the_jargon(tower: Path, adapter: Path) -> None:
    """Words that the base model has never met find their documents after training, and the adapter adds to it."""
    base = first_hits(resolve_base_model("auto"))
    assert first_hits(tower) > base + 0.2
    assert first_hits(adapter) >= first_hits(tower)


def test_a_run_is_merged_with_its_champion(tower: Path, tmp_path: Path) -> None:
    """A small share of new weights leaves the champion's answers as they were; it does not lead back to the base's."""
    path = version(tmp_path, "query_tower", champion=str(tower), merge=0.05, dev_share=0)
    ours, champion, base = (
        Encoder.load(model, device="cpu").encode_queries(QUERIES) for model in (path, tower, "auto")
    )
    assert 1 - (ours * champion).sum(axis=1).mean() < (1 - (ours * base).sum(axis=1).mean()) / 10


def test_an_unchanged_tower_takes_no_second_place_on_disk(tower: Path, adapter: Path) -> None:
    """The adapter's copies of its champion's weights are the champion's own files."""
    for name in ("document_0_Transformer", "query_0_Transformer"):
        assert (adapter / name / "model.safetensors").samefile(tower / name / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["query_tower"])
def test_replay_with_distillation_moves_replayed_queries_less(tier: Tier, tmp_path: Path) -> None:
    """With a heavier pull towards the champion, replayed queries score documents more nearly as they did."""
    texts = list(documents()[2].values())

    def cosines(path: Path | str) -> np.ndarray:
        encoder = Encoder.load(path, device="cpu")
        found: np.ndarray = encoder.encode_queries(QUERIES) @ encoder.encode_documents(texts).T
        return found

    moved = []
    for distil in (0.0, 100.0):
        path = version(tmp_path / str(distil), tier, pairs=pairs("replay"), distil=distil, merge=1.0)
        moved.append(float(np.square(cosines(path) - cosines("auto")).mean()))
    assert moved[1] < moved[0] / 3


@pytest.mark.slow
def test_both_towers_learn_and_own_a_new_index(tmp_path: Path) -> None:
    """The tier `full` moves the documents: another index id, and a better development score on its own documents."""
    path = version(tmp_path, "full", steps=8)
    ours = Encoder.load(path, device="cpu")
    assert ours.index_id != Encoder.load("auto", device="cpu", max_seq_length=256).index_id
    _, _, texts = documents()
    found = ours.encode_queries(QUERIES) @ ours.encode_documents(list(texts.values())).T
    right = [JARGON.index(query.split()[0]) for query in QUERIES]
    assert float(np.mean(found.argmax(axis=1) // len(FAULTS) == right)) > first_hits(resolve_base_model("auto"))


def test_a_snapshot_of_another_space_is_refused(tmp_path: Path) -> None:
    """Document vectors that the champion's document tower did not make never train a query tower."""
    folder = snapshot(tmp_path / "s")
    manifest = json.loads((folder / "snapshot.json").read_text("utf-8"))
    (folder / "snapshot.json").write_text(json.dumps({**manifest, "index_id": "feedfeedfeedfeed"}), "utf-8")
    with pytest.raises(ValueError, match="re-encode the documents"):
        train(read_snapshot(folder), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_mean_of_two_models_lies_between_them_and_keeps_the_index(tower: Path, tmp_path: Path) -> None:
    """`--average` trains nothing: every query weight is the mean of both, the document side is that of each."""
    other = version(tmp_path, "query_tower", steps=2)
    train(read_snapshot(snapshot(tmp_path / "both", tier="query_tower")), tmp_path / "mean", average=(tower, other))
    mean, ours, theirs = (Encoder.load(path, device="cpu") for path in (tmp_path / "mean", tower, other))
    assert mean.document_tower_id == ours.document_tower_id
    assert mean.index_id == ours.index_id
    apart = [float(np.abs(a.encode_queries(QUERIES) - b.encode_queries(QUERIES)).mean())
             for a, b in ((mean, ours), (mean, theirs), (ours, theirs))]  # fmt: skip
    assert 0 < max(apart[:2]) < apart[2]
