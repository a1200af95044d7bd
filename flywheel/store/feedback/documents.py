"""The documents that are searched: the latest version of each, and what changed since an index last looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from flywheel.events import Document
from flywheel.store.feedback.feedback import write_documents
from flywheel.store.schema.database import Database


@dataclass(frozen=True, slots=True)
class Change:
    """A document as it is now. `changed_since(sequence)` goes on after it."""

    sequence: int
    doc_id: str
    content: str
    content_hash: str
    deleted: bool


class Documents:
    """Reads and writes of the `documents` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def upsert(self, documents: Sequence[Document], now_ms: int) -> int:
        """Store the versions that are not older than the stored ones. Returns how many rows changed."""
        with self._database.write() as con:
            return write_documents(con, list(documents), now_ms)

    def changed_since(self, sequence: int, limit: int = 10_000) -> list[Change]:
        """Documents whose content or deletion changed after `sequence`, in order of change."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT change_seq, doc_id, title, text, content_hash, deleted FROM documents "
                "WHERE change_seq > ? ORDER BY change_seq LIMIT ?",
                [sequence, limit],
            ).fetchall()
        return [Change(seq, doc_id, _content(title, text), *rest) for seq, doc_id, title, text, *rest in rows]

    def last_change(self) -> int:
        """The sequence of the latest change; 0 if there is none."""
        with self._database.read() as con:
            return int(con.execute("SELECT coalesce(max(change_seq), 0) FROM documents").fetchall()[0][0])

    def titles(self, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> title. Unknown documents are left out, deleted ones are not."""
        return {doc_id: title for doc_id, title, _, _ in self._pick(doc_ids)}

    def contents(self, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> what an encoder reads. Unknown and deleted documents are left out."""
        return {doc_id: _content(title, text) for doc_id, title, text, deleted in self._pick(doc_ids) if not deleted}

    def sample(self, size: int) -> list[tuple[str, str]]:
        """(title, what an encoder reads) of at most `size` documents that are not deleted, the same ones each time."""
        with self._database.read() as con:
            rows = con.execute(
                "SELECT title, text FROM documents WHERE NOT deleted ORDER BY hash(doc_id), doc_id LIMIT ?", [size]
            ).fetchall()
        return [(title, _content(title, text)) for title, text in rows]

    def ids(self) -> list[str]:
        """Every document that is not deleted, ordered by id."""
        with self._database.read() as con:
            rows = con.execute("SELECT doc_id FROM documents WHERE NOT deleted ORDER BY doc_id").fetchall()
        return [doc_id for (doc_id,) in rows]

    def count(self) -> int:
        """Documents that are not deleted."""
        with self._database.read() as con:
            return int(con.execute("SELECT count(*) FROM documents WHERE NOT deleted").fetchall()[0][0])

    def _pick(self, doc_ids: Sequence[str]) -> list[tuple[str, str, str, bool]]:
        with self._database.read() as con:
            con.register("wanted", pa.table({"doc_id": pa.array(doc_ids, pa.string())}))
            return con.execute(
                "SELECT doc_id, title, text, deleted FROM documents SEMI JOIN wanted USING (doc_id)"
            ).fetchall()


def _content(title: str, text: str) -> str:
    # as flywheel.events.Document.content: Python strips more kinds of white space than SQL's trim
    return f"{title} {text}".strip()
