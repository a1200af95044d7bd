"""Training happens in the suite's own process, whose memory a run's budget counts: no test leaves a model behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_model_left_behind() -> Iterator[None]:
    """A model that was trained lies in reference cycles; among a suite's many objects they are seldom looked for."""
    yield
    gc.collect()
