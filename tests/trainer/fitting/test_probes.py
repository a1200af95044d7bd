"""Probes: queries that nobody asked yet, which training leaves where the base model has them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from flywheel.retrieval.encoder import Encoder
from flywheel.retrieval.origin import resolve_base_model
from tests.trainer.collection import documents, snapshot
from trainer.__main__ import train
from trainer.data.dataset import read_snapshot
from trainer.data.recipe import Tier
from trainer.fitting import modeldir, probes

# Of another kind than the collection's queries, which are what trains.
ASKED = [f"{adjective} {noun} for the weekend" for adjective in ("cheap", "quiet", "sunny") for noun in
         ("hotel", "cabin", "beach", "museum", "garden", "bakery")]  # fmt: skip


def moved(path: Path) -> float:
    """Mean cosine distance of the probes from where the base model has them."""
    before, after = (Encoder.load(model, device="cpu").encode_queries(ASKED) for model in ("auto", path))
    return float(1 - (before * after).sum(axis=1).mean())


@pytest.mark.parametrize("tier", ["adapter", "query_tower"])
def test_probes_stay_where_the_base_model_has_them(tier: str, tmp_path: Path) -> None:
    """With their pull, probes end much nearer to the base model's vectors than without."""
    found = []
    for weight in (0.0, 100.0):
        folder = tmp_path / str(weight)
        made = snapshot(folder / "s", tier=cast(Tier, tier), asked=ASKED, probe_weight=weight, merge=1.0, steps=20)
        train(read_snapshot(made), folder / "m")
        found.append(moved(folder / "m"))
    assert found[1] < found[0] / 2


@pytest.mark.parametrize("tier", ["adapter", "query_tower"])
def test_probes_lead_a_champion_that_left_back_to_the_base(tier: str, tmp_path: Path) -> None:
    """It is the base model's answers that a later run is held to, each probe to its own, not the champion's."""
    first = snapshot(tmp_path / "s1", asked=ASKED, probe_weight=0.0, merge=1.0, steps=40)
    train(read_snapshot(first), tmp_path / "m1")
    champion = str(tmp_path / "m1")
    settings = {"probe_weight": 100.0, "merge": 1.0, "steps": 40}
    made = snapshot(tmp_path / "s2", tier=cast(Tier, tier), champion=champion, asked=ASKED, **settings)
    train(read_snapshot(made), tmp_path / "m2")
    assert moved(tmp_path / "m2") < moved(tmp_path / "m1") / 2


def test_a_base_of_another_space_pulls_nothing(tmp_path: Path) -> None:
    """Where the champion's document tower is no longer the base model's, the base has no vectors to stay at."""
    copy = tmp_path / "champion"
    shutil.copytree(resolve_base_model("auto"), copy)
    made = snapshot(tmp_path / "s", asked=ASKED, champion=str(copy))
    here = read_snapshot(made)
    assert modeldir.home_vectors(here, ASKED, device="cpu") is not None
    other = modeldir.load(resolve_base_model("auto"), max_seq_length=128, device="cpu")
    text = (made / "snapshot.json").read_text("utf-8")
    index_id = Encoder(other, device="cpu", bf16=False).index_id
    (made / "snapshot.json").write_text(text.replace(here.header.index_id, index_id), "utf-8")
    assert modeldir.home_vectors(read_snapshot(made), ASKED, device="cpu") is None


def test_vectors_at_hand_are_not_made_again(tmp_path: Path) -> None:
    """The adapter trains on the query vectors that its snapshot brings, not on others."""
    queries = sorted({row["query"] for row in read_snapshot(snapshot(tmp_path / "look")).pairs.to_pylist()})
    _, vectors, _ = documents()
    turned = np.random.default_rng(1).standard_normal((len(queries), vectors.shape[1])).astype(np.float32)
    versions = []
    for name, known in (("own", None), ("given", (queries, turned / np.linalg.norm(turned, axis=1, keepdims=True)))):
        made = snapshot(tmp_path / name / "s", tier="adapter", query_vectors=known)
        versions.append(train(read_snapshot(made), tmp_path / name / "m")["dev"]["champion"]["all"])
    assert versions[1] < versions[0]


def test_probes_are_held_harder_where_no_taught_query_comes_near() -> None:
    """Documents lie in two heaps and queries are taught about one of them: probes about the other weigh more."""
    random = np.random.default_rng(3)
    heap = np.repeat(np.eye(2, 16, dtype=np.float32), 2 * probes.REACH, axis=0)
    of = (heap + 0.1 * random.standard_normal(heap.shape).astype(np.float32)).astype(np.float32)
    taught = of[: 2 * probes.REACH] + 0.1 * random.standard_normal((2 * probes.REACH, 16)).astype(np.float32)
    found = probes.forces(of, taught.astype(np.float32), of, near=10.0, far=40.0, device="cpu")
    assert set(found[2 * probes.REACH :]) == {40.0}
    assert (found[: 2 * probes.REACH] == 10.0).mean() > 0.9


def test_a_run_holds_far_probes_by_their_own_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no taught query reaches the probes' documents, they end nearer to the base the more far ones weigh."""
    monkeypatch.setattr(probes, "REACH", 1)
    found = []
    for times in (1.0, 100.0):
        folder = tmp_path / str(times)
        made = snapshot(folder / "s", asked=ASKED, probe_weight=1.0, probe_far=times, merge=1.0, steps=20)
        train(read_snapshot(made), folder / "m")
        found.append(moved(folder / "m"))
    assert found[1] < found[0] / 2


def test_without_a_taught_query_every_probe_is_far() -> None:
    """Nothing that is learned comes near any probe, and each weighs as much as it may."""
    of = np.eye(4, dtype=np.float32)
    found = probes.forces(of, np.empty((0, 4), np.float32), of, near=10.0, far=40.0, device="cpu")
    assert found.tolist() == [40.0] * 4
