"""One running API for each module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.house import House, serve


@pytest.fixture
def house() -> Iterator[House]:
    """The API without a token, on loopback."""
    with serve() as running:
        yield running
