"""What can be asked of indexes without opening them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flywheel.retrieval.indexer import Indexers


class NoModel:
    """Loads none: whoever asks for one has opened an index."""

    def encoder(self, version: str) -> Any:
        raise AssertionError(f"{version} was loaded to answer a question about memory")


def test_asking_how_much_memory_an_index_takes_loads_no_model(tmp_path: Path) -> None:
    """An index that is not open takes none, and `doctor` and `status` without a daemon cost no model."""
    assert Indexers(NoModel(), None, tmp_path, lambda _: None).memory_bytes("space") == 0  # type: ignore[arg-type]
