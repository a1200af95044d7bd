"""The daemon's memory: what it may use, what it does use, and what is not begun beyond."""

from __future__ import annotations

import mmap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flywheel.learning.cycle import Cycle
from flywheel.settings.load import Config
from flywheel.settings.memory import MemoryBudget, MemoryExceeded


def test_what_is_used_follows_what_is_held() -> None:
    """A hundred megabytes more are seen, and a file that is mapped is not counted."""
    before = MemoryBudget(1.0).used_bytes
    held = np.ones(100_000_000, np.uint8)
    assert MemoryBudget(1.0).used_bytes - before > 80_000_000
    assert len(held) == 100_000_000
    assert mmap.PAGESIZE > 0


def test_work_that_grows_with_the_data_is_refused_with_the_setting_to_mend() -> None:
    """Beyond the limit nothing is begun; within it everything is."""
    MemoryBudget(1_000.0).check("indexing")
    with pytest.raises(MemoryExceeded, match=r"indexing waits.*limits\.memory_gb"):
        MemoryBudget(0.001).check("indexing")


def test_a_turn_of_the_wheel_is_not_begun_beyond_the_limit() -> None:
    """It is refused before it takes the lock or reads anything."""
    config = Config.model_validate({"limits": {"memory_gb": 0.001}})
    parts: Any = SimpleNamespace(store=None, learning=None, stop=None, config=config)
    with pytest.raises(MemoryExceeded, match="learning waits"):
        Cycle(parts).turn("manual", None)


def test_without_a_setting_it_is_a_share_of_the_machine() -> None:
    """There is always a limit, below what the machine has."""
    assert 0 < MemoryBudget(None).limit_bytes < 1 << 50
    assert MemoryBudget(2.0).status({"index": 3_000_000})["index_mb"] == 3
