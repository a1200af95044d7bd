"""One furnished home for all whole-turn tests; each test works on a copy of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from flywheel.app import open_local
from tests.integration.world import SETTINGS, furnish, search_and_click


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with documents, index and golden set, in which nobody has searched yet."""
    home = tmp_path_factory.mktemp("world") / "silent"
    furnish(home, {**os.environ, **SETTINGS})
    return home


@pytest.fixture(scope="session")
def furnished(silent: Path) -> Path:
    """A home with documents, index, golden set and one round of pbm feedback."""
    home = Path(shutil.copytree(silent, silent.with_name("home")))
    with open_local(home, {**os.environ, **SETTINGS}) as operations:
        search_and_click(operations)
    return home


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment of a small world."""
    return {**os.environ, **SETTINGS}


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    """A copy of the furnished home, its files hard links; the database is written in place and gets its own."""
    copy = Path(shutil.copytree(furnished, tmp_path / "home", copy_function=os.link, symlinks=True)).resolve()
    (copy / "flywheel.duckdb").unlink()
    shutil.copyfile(furnished / "flywheel.duckdb", copy / "flywheel.duckdb")
    return copy
