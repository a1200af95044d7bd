"""Whether there is room for what ingestion would write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path


def room_on_disk(folder: Path, min_free_mb: int) -> Callable[[], str | None]:
    """A guard for `Ingest`: the reason to wait while the disk of `folder` has less than `min_free_mb` left."""

    def check() -> str | None:
        free_mb = shutil.disk_usage(folder).free // 1_048_576
        if free_mb >= min_free_mb:
            return None
        return (
            f"{free_mb} MB are free in {folder}; limits.min_free_mb asks for {min_free_mb}: make room, nothing is lost"
        )

    return check
