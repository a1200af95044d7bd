"""A store in a fresh folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / "flywheel.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """An open store, closed afterwards."""
    with Store.open(path, memory_gb=0.5, threads=1) as opened:
        yield opened
