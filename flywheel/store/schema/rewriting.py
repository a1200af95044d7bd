"""Copies a database file that nobody has open into a fresh one, which holds nothing but the rows that there are.

Deleted rows stay in the blocks of DuckDB's file until others take their place, and nobody can say when. In a copy they
never were.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

_SUFFIX = ".rewriting"


def sweep(path: Path) -> None:
    """Delete what a killed copy left, and what the database spilled before it was killed."""
    for leftover in (_partial(path), _log(_partial(path))):
        leftover.unlink(missing_ok=True)
    shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)


def rewrite(path: Path, storage_version: str) -> None:
    """Put a copy in the file's place: 1. copy, 2. flush, 3. rename. Killed before 3, nothing happened.

    Raises:
        duckdb.Error, OSError: the old file stays.
    """
    sweep(path)
    partial = _partial(path)
    with duckdb.connect(":memory:", config={"temp_directory": str(partial) + ".tmp"}) as copying:
        copying.execute(f"ATTACH {_text(path)} AS old")
        copying.execute(f"ATTACH {_text(partial)} AS fresh (STORAGE_VERSION {_text(storage_version)})")
        copying.execute("COPY FROM DATABASE old TO fresh")  # 1
        copying.execute("DETACH fresh")
        copying.execute("DETACH old")
    os.chmod(partial, 0o600)  # noqa: PTH101 - beside the descriptors below
    _flush(partial)  # 2
    log = _log(path)
    if log.exists() and log.stat().st_size:
        raise OSError(f"{log} was not written into {path}; nothing was replaced")
    partial.replace(path)  # 3
    log.unlink(missing_ok=True)
    _flush(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + _SUFFIX)


def _log(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(value: Path | str) -> str:
    # ATTACH takes no parameters; the names are our own
    return "'" + str(value).replace("'", "''") + "'"
