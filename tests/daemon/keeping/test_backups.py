"""A home is copied while it is in use, put back whole, and forgets again whom it had forgotten since."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.daemon.keeping.backups import MANIFEST, backup, check, put_back, repeat_erasures
from flywheel.operations import OperationError
from flywheel.settings.erased import Ledger, key_file
from flywheel.settings.home import Home
from flywheel.settings.load import ConfigError
from flywheel.store.store import Store
from tests.daemon.erasing_world import PERSON, eraser, found, furnish, ingest, needles
from tests.store.make import NOW, rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that knows the person in every kind of file."""
    return furnish(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    with opened(home) as store:
        yield store


def opened(home: Home) -> Store:
    return Store.open(home.database, memory_gb=0.5, threads=1)


def test_a_copy_is_whole_while_others_write(home: Home, store: Store, tmp_path: Path) -> None:
    """Taken between batches, it holds a whole number of them; what it holds is as the manifest says."""
    stop = threading.Event()

    def arrive() -> None:
        number = 1
        while not stop.is_set():
            ingest(home, store, start=10_000 * number, people=20)
            number += 1

    arriving = threading.Thread(target=arrive)
    arriving.start()
    told = backup(home, store.database, tmp_path / "copy", NOW)
    stop.set()
    arriving.join()
    assert check(tmp_path / "copy")["made_at"] == told["made_at"] == "2023-11-14T22:13:20+00:00"
    with Store.open(tmp_path / "copy" / "flywheel.duckdb", memory_gb=0.5, threads=1) as copied:
        ((pages, events),) = rows(copied, "SELECT (SELECT count(*) FROM queries), (SELECT count(*) FROM feedback)")
    assert (pages - 304, events - 302) == ((pages - 304) // 20 * 20, pages - 304)


def test_a_copy_is_its_owners_alone(home: Home, store: Store, tmp_path: Path) -> None:
    """It holds the key of the hashed ids; nobody else may read it."""
    backup(home, store.database, tmp_path / "copy", NOW)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "copy").rglob("*") if path.is_file()} == {0}
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0


def test_a_place_that_will_not_do_is_refused(home: Home, store: Store, tmp_path: Path) -> None:
    """A folder that is there, and one within the home; nothing is left of a failed copy."""
    for place in (tmp_path, home.root / "inside"):
        with pytest.raises(OperationError, match="name a"):
            backup(home, store.database, place, NOW)
    assert not (home.root / "inside").exists()


def test_what_was_put_back_has_forgotten_whom_was_erased_since(home: Home, tmp_path: Path) -> None:
    """The copy knows the person; the home that it becomes does not, in any file, and everybody else is there."""
    ledger = Ledger(home.root, tmp_path / "elsewhere" / "key")
    with opened(home) as store:
        backup(home, store.database, tmp_path / "copy", NOW)
        forgetting = eraser(home, store)
        forgetting.listeners.append(ledger.add)
        forgetting.erase(PERSON)
    told = put_back(home, tmp_path / "copy")
    assert Path(told["former"]).is_dir()
    assert any("flywheel.duckdb" in hit for hit in found(home))
    with opened(home) as store:
        assert repeat_erasures(home, store, ledger, home.hasher()) == 1
        assert repeat_erasures(home, store, ledger, home.hasher()) == 0
        assert eraser(home, store).finish()
        assert rows(store, "SELECT count(*) FROM queries") == [(301,)]
    assert found(home) == set()


def test_the_log_of_erasures_tells_nobody_who_was_erased(home: Home, tmp_path: Path) -> None:
    """Neither the id nor its key is in it, and without its own key, which lies elsewhere, a copy is not put to use."""
    ledger = Ledger(home.root, tmp_path / "elsewhere" / "key")
    ledger.add(home.hasher()(PERSON))
    content = (home.root / "erasures.log").read_bytes()
    assert not [name for name, value in needles(home).items() if value in content]
    assert (tmp_path / "elsewhere" / "key").stat().st_mode & 0o077 == 0
    assert ledger.erased(["nobody", home.hasher()(PERSON)]) == [home.hasher()(PERSON)]
    with pytest.raises(ConfigError, match=r"keeping\.erasure_key_file"):
        Ledger(home.root, tmp_path / "lost").erased(["somebody"])


def test_the_key_lies_outside_the_home() -> None:
    """As configured, else in the user's own configuration folder."""
    assert key_file(Path("/etc/flywheel/key"), {}) == Path("/etc/flywheel/key")
    assert key_file(None, {"XDG_CONFIG_HOME": "/var/conf"}) == Path("/var/conf/flywheel/erasure.key")
    assert key_file(None, {}) == Path.home() / ".config/flywheel/erasure.key"


@pytest.mark.parametrize("harm", ["changed", "missing", "unfinished"])
def test_a_copy_that_was_harmed_is_not_put_back(home: Home, tmp_path: Path, harm: str) -> None:
    """One that was changed, lacks a file or was never finished is refused, and the home is as it was."""
    with opened(home) as store:
        backup(home, store.database, tmp_path / "copy", NOW)
    harmed = {"changed": "secret.key", "missing": "flywheel.duckdb", "unfinished": MANIFEST}[harm]
    if harm == "changed":
        (tmp_path / "copy" / harmed).write_bytes(b"x" * 32)
    else:
        (tmp_path / "copy" / harmed).unlink()
    before = sorted(path.name for path in home.root.iterdir())
    with pytest.raises(OperationError, match="copy"):
        put_back(home, tmp_path / "copy")
    assert sorted(path.name for path in home.root.iterdir()) == before
