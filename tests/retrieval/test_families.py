"""Every family of models is served as its library serves it, vector for vector, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from benchmarks import families, models
from flywheel.retrieval.encoder import Encoder, prompt_of
from flywheel.retrieval.origin import examine

TEXTS = ["copy a list", "how to sort " + "many words about sorting things in place " * 30, "", "naïve café"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def folder_of(folders: Path, name: str) -> Path:
    folder = folders / name
    return folder if folder.exists() else families.make(name, folder)


@pytest.mark.parametrize("name", list(families.FOLDERS))
def test_a_family_is_served_as_the_library_does_it(folders: Path, name: str) -> None:
    """Both sides, short and long texts, with the folder's own prompts, length limit and dimensions."""
    folder = folder_of(folders, name)
    examine(folder)
    ours = Encoder.load(folder, device="cpu", bf16="off")
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    for found, theirs in (
        (ours.encode_queries(TEXTS), library.encode_query(TEXTS, normalize_embeddings=True)),
        (ours.encode_documents(TEXTS), library.encode_document(TEXTS, normalize_embeddings=True)),
    ):
        np.testing.assert_allclose(found, theirs, atol=1e-5)
    ours.check()


@pytest.mark.parametrize(
    "name", ["DistilBERT", "T5", "Gemma 3", "ModernBERT", "static embeddings", "truncated dimensions"]
)
def test_a_space_keeps_its_name_when_a_folder_is_written_again(folders: Path, tmp_path: Path, name: str) -> None:
    """The same weights and settings have one index, whatever wrote their folder; other weights have another."""
    first = Encoder.load(folder_of(folders, name), device="cpu")
    first.model.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    assert Encoder.load(tmp_path / "again", device="cpu").index_id == first.index_id
    other = Encoder.load(families.make(name, tmp_path / "other", seed=1), device="cpu")
    assert other.index_id != first.index_id


def test_a_setting_never_lengthens_what_a_model_reads(folders: Path) -> None:
    """A limit above the folder's own changes nothing, and one below it is taken."""
    folder = folder_of(folders, "E5's prompts, 64 tokens")
    assert [Encoder.load(folder, device="cpu", max_seq_length=most).max_seq_length for most in (None, 256, 32)] == [
        64, 64, 32,
    ]  # fmt: skip


def test_an_empty_document_prompt_is_the_models_word(folders: Path) -> None:
    """E5's `passage` is not put before documents where the library would not put it."""
    model = Encoder.load(folder_of(folders, "E5's prompts, 64 tokens"), device="cpu").model
    assert (prompt_of(model, "query"), prompt_of(model, "document")) == ("query: ", None)


def test_a_folder_that_was_served_otherwise_can_be_told_so(folders: Path) -> None:
    """The space that an earlier release gave a folder is found again: its length limit and its document prompt."""
    encoder = Encoder.load(folder_of(folders, "E5's prompts, 64 tokens"), device="cpu", bf16="off")
    earlier = Encoder.load(folder_of(folders, "E5's prompts, 64 tokens"), device="cpu", bf16="off")
    earlier.model.prompts["document"] = "passage: "
    earlier.model.max_seq_length = 256
    assert encoder.as_before(earlier.index_id, None) == {"max_seq_length": 256, "prompt": "passage: "}
    assert encoder.as_before("0" * 16, None) is None


@pytest.mark.parametrize("tier", models.TIERS)
@pytest.mark.parametrize("name", ["truncated dimensions", "T5"])
def test_a_tier_trains_what_is_no_bert(folders: Path, tmp_path: Path, name: str, tier: str) -> None:
    """What it saves is loaded by the plain library with the same vectors, and fits the index that it should."""
    folder = folder_of(folders, name)
    base = Encoder.load(folder, device="cpu", bf16="off")
    assert models.trained(folder, tmp_path, tier, base) == "yes"  # type: ignore[arg-type]


def test_the_page_has_a_row_for_each_family() -> None:
    """docs/models.md is what the script writes: its words, and one row for each folder, none of them refused."""
    text = models.PAGE.read_text("utf-8")
    head, rows = text[: len(models._HEAD)], text[len(models._HEAD) :].splitlines()
    assert head == models._HEAD
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(families.FOLDERS)
    assert all(row.split(" | ")[1:3] == ["yes", "yes"] for row in rows)


def test_the_manifest_of_a_library_version_is_not_ours(tmp_path: Path) -> None:
    """A folder that was trained elsewhere is read with the prompts that it names."""
    folder = families.make("prompts for both sides", tmp_path / "m")
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert config["prompts"] == {"query": "search: ", "document": "title: "}
    assert prompt_of(Encoder.load(folder, device="cpu").model, "document") == "title: "
