"""Collections in zip files: found wherever they stand, and refused by name where they are none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from flywheel.files.archives import collection
from flywheel.files.beir import BeirError

FILES = {"corpus.jsonl": "c", "queries.jsonl": "q", "qrels/test.tsv": "t"}


def _zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("top", ["", "scifact/", "a/b/"])
def test_it_is_found_at_any_depth(top: str, tmp_path: Path) -> None:
    """The collection's own files come out, whatever else the archive has; nothing is left afterwards."""
    files = {top + name: text for name, text in FILES.items()} | {"__MACOSX/corpus.jsonl": "x", f"{top}README": "x"}
    with collection(_zip(tmp_path / "c.zip", files)) as folder:
        found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert not folder.exists()


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    """A name that climbs out of the folder is not followed."""
    files = FILES | {"../evil.tsv": "x", "qrels/../../evil.tsv": "x", "/qrels/evil.tsv": "x"}
    with collection(_zip(tmp_path / "c.zip", files)) as folder:
        assert sorted(path.name for path in folder.rglob("*.tsv")) == ["test.tsv"]
        assert list(folder.parent.glob("evil*")) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [({"readme.txt": ""}, "no corpus.jsonl"), ({"a/corpus.jsonl": "", "b/corpus.jsonl": ""}, "several: a, b")],
)
def test_an_archive_without_one_collection_is_refused(files: dict[str, str], said: str, tmp_path: Path) -> None:
    """None, or two, are told apart."""
    with pytest.raises(BeirError, match=said), collection(_zip(tmp_path / "c.zip", files)):
        pass


def test_a_damaged_archive_is_refused_by_name(tmp_path: Path) -> None:
    """Half a download is no zip file."""
    path = _zip(tmp_path / "c.zip", FILES)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(BeirError, match=r"c\.zip is no zip file"), collection(path):
        pass
