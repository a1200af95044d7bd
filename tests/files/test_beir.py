"""A BEIR folder is read as its publishers write it, and what cannot be read is named with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flywheel.files.beir import BeirError, read_corpus, read_qrels, read_queries, read_split, splits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    _write(tmp_path / "corpus.jsonl", [{"_id": "d1", "title": "One", "text": "first"}, {"_id": 2, "text": "second"}])
    _write(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "one?"}, {"_id": "q2", "text": "two?"}])
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t2\t0\n")
    return tmp_path


def _write(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_documents_come_with_what_an_encoder_reads(folder: Path) -> None:
    """Title and text become one content, ids become text, in the order of the file."""
    assert [(passage.doc_id, passage.content) for passage in read_corpus(folder)] == [
        ("d1", "One first"),
        ("2", "second"),
    ]


def test_gz_reads_as_plain(folder: Path) -> None:
    """A compressed file gives the same as the plain one."""
    plain = (list(read_corpus(folder)), read_queries(folder), read_qrels(folder, "test"))
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert (list(read_corpus(folder)), read_queries(folder), read_qrels(folder, "test")) == plain
    assert splits(folder) == ["test"]


@pytest.mark.parametrize(
    "text", ["q1\td1\t2\nq1\t2\t0\n", "q1 0 d1 2\nq1 0 2 0\n", "query-id corpus-id score\nq1 d1 2\nq1 2 0"]
)
def test_qrels_with_and_without_header(folder: Path, text: str) -> None:
    """A header is optional, and TREC's four columns are understood."""
    (folder / "qrels" / "test.tsv").write_text(text)
    assert read_qrels(folder, "test") == {"q1": {"d1": 2.0, "2": 0.0}}


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\tjudged_at\nq1\td1\t2\t1772323200\nq1\t2\t0\t1772323200\n",
        "score\tcorpus_id\tquery_id\n2\td1\tq1\n0\t2\tq1\n",
        "query_id iteration doc_id relevance\nq1 1 d1 2\nq1 1 2 0\n",
    ],
)
def test_a_header_says_which_column_is_which(folder: Path, text: str) -> None:
    """A fourth column is no grade, and the order is the header's."""
    (folder / "qrels" / "test.tsv").write_text(text)
    assert read_qrels(folder, "test") == {"q1": {"d1": 2.0, "2": 0.0}}


@pytest.mark.parametrize(
    ("text", "line"),
    [("q1\td1\t\nq2\td1\t1\n", 1), ("q1\td1\t1\t1772323200\n", 1), ("q1\td1\t1\nq1\t\t1\n", 2), ("q1\td1\tnan", 1)],
)
def test_a_row_that_is_no_judgement_is_named(folder: Path, text: str, line: int) -> None:
    """A first line without a grade is no header, four columns need one, an empty id or a grade of NaN is none."""
    (folder / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(BeirError, match=rf"test\.tsv:{line}: expected query-id"):
        read_qrels(folder, "test")


def test_a_judgement_that_is_not_used_is_counted_with_its_place(folder: Path) -> None:
    """Queries without a line or without words, and a pair that is judged twice, are lost with a word."""
    _write(
        folder / "queries.jsonl",
        [{"_id": "q1", "text": "one?"}, {"_id": "q2", "text": " "}, {"_id": "q3", "text": "cut \ud83d"}],
    )
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t2\nq2\td1\t1\nq9\td1\t1\nq9\t2\t1\nq3\td1\t1\nq1\td1\t0\n")
    judged = read_split(folder, "test")
    assert (judged.ids, judged.judgements) == (("q1",), ({"d1": 0.0},))
    assert (judged.unused.read, judged.rows.read) == (4, 6)
    assert dict(judged.unused.places) == {
        "a query without words": ["queries.jsonl:2"],
        "a query's text: half a character (\\ud83d) where text is expected": ["queries.jsonl:3"],
        "a judged query that queries.jsonl lacks": ["test.tsv:3"],
    }
    assert dict(judged.rows.places) == {"judged again with another grade; the last one counts": ["test.tsv:6"]}


def test_another_encoding_is_named_with_its_line(folder: Path) -> None:
    """A file in Latin-1 is refused with file, line and cure."""
    (folder / "queries.jsonl").write_bytes('{"_id": "q1", "text": "gr\u00f6\u00dfe"}\n'.encode("latin-1"))
    with pytest.raises(BeirError, match=r"queries\.jsonl:1: byte 0xf6 is not UTF-8; save the file as UTF-8"):
        read_split(folder, "test")


def test_a_split_has_its_judged_queries_alone(folder: Path) -> None:
    """Queries without a judgement in the split are not in it."""
    judged = read_split(folder, "test")
    assert (judged.ids, judged.texts, judged.judgements) == (("q1",), ("one?",), ({"d1": 2.0, "2": 0.0},))


def test_a_missing_split_names_those_there_are(folder: Path) -> None:
    """Whoever mistypes a split sees the right names."""
    with pytest.raises(BeirError, match="no split 'dev'; it has test"):
        read_qrels(folder, "dev")


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("corpus.jsonl", "{oops", r"corpus\.jsonl:3: no JSON"),
        ("corpus.jsonl", '{"text": "x"}', r"corpus\.jsonl:3: no _id; it has text"),
        ("corpus.jsonl", '{"_id": "d3"}', r"corpus\.jsonl:3: no text"),
        ("corpus.jsonl", "[]", r"corpus\.jsonl:3: expected a JSON object"),
    ],
)
def test_an_unreadable_line_is_named(folder: Path, name: str, line: str, said: str) -> None:
    """File, line and cause stand in the message."""
    with (folder / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BeirError, match=said):
        list(read_corpus(folder))


def test_a_folder_without_a_corpus_says_what_belongs_there(tmp_path: Path) -> None:
    """An empty folder is answered with the layout that is expected."""
    with pytest.raises(BeirError, match=r"corpus\.jsonl .* is missing: a BEIR folder has"):
        list(read_corpus(tmp_path))


def test_a_bad_judgement_is_named(folder: Path) -> None:
    """A line that is no judgement is an error, not a skipped query."""
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\thigh\n")
    with pytest.raises(BeirError, match=r"test\.tsv:2: expected query-id"):
        read_qrels(folder, "test")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "documents", "queries"), [("scifact", 5183, 300), ("acord", 3931, 57)])
def test_published_collections_are_read_whole(name: str, documents: int, queries: int) -> None:
    """Real collections have the sizes that their publishers state."""
    folder = Path(__file__).parents[3] / "shared/data" / name
    if not folder.is_dir():
        pytest.skip("the shared collections are not here")
    assert sum(1 for _ in read_corpus(folder)) == documents
    assert len(read_split(folder, "test")) == queries
