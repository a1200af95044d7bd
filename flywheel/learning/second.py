"""Keeps the second reading of a run's clicks in a folder, between the moment it is made and its training."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.clicks.pairs import Pairs

_FILE = "pairs.parquet"


def folder_of(snapshots: Path, run_id: str, part: str) -> Path:
    """Where a run keeps what belongs to one more of its challengers; it goes when the run's turn is over."""
    return snapshots / f"{run_id}.{part}"


def keep(folder: Path, reading: str, pairs: Pairs, known_ms: int) -> None:
    """Write the pairs, whole or not at all. The champion knows those without a page or event after `known_ms`."""
    last = pairs.facts.last_ms.tolist()
    table = pa.table(
        {
            "query": list(pairs.query),
            "query_key": list(pairs.query_key),
            "doc_id": list(pairs.doc_id),
            "label": list(pairs.label),
            "weight": pa.array(pairs.weight, pa.float64()),
            "posterior": pa.array(pairs.posterior, pa.float64()),
            "source": ["new" if ms > known_ms else "replay" for ms in last],
            "origin": list(pairs.source),
        }
    ).replace_schema_metadata({"reading": reading})
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_FILE}.{os.getpid()}.tmp"
    pq.write_table(table, draft)
    draft.replace(folder / _FILE)


def kept(folder: Path) -> tuple[str, pa.Table] | None:
    """The reading's name and its pairs; None where a run has no second reading."""
    if not (folder / _FILE).exists():
        return None
    table = pq.read_table(folder / _FILE)
    return (table.schema.metadata or {})[b"reading"].decode(), table
