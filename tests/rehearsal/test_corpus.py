"""The demo's corpus: real, of a useful size, the same each time, and silent."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flywheel.rehearsal import corpus


@pytest.fixture(scope="module")
def built() -> corpus.PythonDocs:
    return corpus.build(updated_at_ms=7)


def test_size(built: corpus.PythonDocs) -> None:
    """A few thousand documents come from the standard library, nearly every listed module among them."""
    assert 2_500 <= len(built.documents) <= 4_500
    assert len(built.missing_modules) <= 5


def test_documents_are_distinct_and_readable(built: corpus.PythonDocs) -> None:
    """Ids and texts are unique, and no text is empty or overlong."""
    assert len(built.ids) == len(built.documents) == len({document.text for document in built.documents})
    lengths = [len(document.text) for document in built.documents]
    assert min(lengths) >= corpus.MIN_CHARACTERS
    assert max(lengths) <= corpus.MAX_CHARACTERS + 4
    assert {document.updated_at_ms for document in built.documents} == {7}


@pytest.mark.parametrize(
    "doc_id",
    """copy copy.deepcopy str.replace set.intersection os.path.join pathlib.PurePath.stem pathlib.Path.exists KeyError
    open json.loads array.array datetime.datetime.strptime functools.partial time.localtime""".split(),  # noqa: SIM905
)
def test_documents_bear_the_names_that_people_use(built: corpus.PythonDocs, doc_id: str) -> None:
    """Where several names lead to one text, the document has the public one."""
    assert doc_id in built.ids


def test_same_corpus_in_another_process_without_a_word() -> None:
    """Another interpreter with another hash seed builds the same documents, and importing them prints nothing."""
    script = (
        "import hashlib; from flywheel.rehearsal import corpus; built = corpus.build(); "
        "print(hashlib.sha256(repr(built).encode()).hexdigest())"
    )
    outputs = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert len(done.stdout.split()) == 1
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_missing_modules_are_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that this Python lacks costs its own documents alone, and is named."""
    monkeypatch.setattr(corpus, "MODULES", [*corpus.MODULES[:20], "no_such_module"])
    built = corpus.build()
    assert built.missing_modules == ("no_such_module",)
    assert "abs" in built.ids


def test_stripped_docstrings_are_an_error_that_says_so() -> None:
    """Under `python -OO` there is nothing to search, and the message names the cause."""
    done = subprocess.run(
        [sys.executable, "-OO", "-c", "from flywheel.rehearsal import corpus; corpus.build()"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "without -OO" in done.stderr
