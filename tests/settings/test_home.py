"""The home is one folder: made once, with a secret of its own, and it knows who serves it."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.settings.home import Home, HomeError


def test_init_makes_a_home_and_leaves_an_existing_one_alone(tmp_path: Path) -> None:
    """The second `init` changes no settings."""
    home = Home(tmp_path / "home")
    assert home.init()
    (home.root / "flywheel.toml").write_text("[kafka]\n")
    assert not home.init()
    assert (home.root / "flywheel.toml").read_text() == "[kafka]\n"


def test_ids_are_hashed_with_a_key_that_is_this_homes_own(tmp_path: Path) -> None:
    """The same id gives the same key in one home and another in the next; the key file is for its owner alone."""
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    one.init(), two.init()
    assert one.hasher()("ada") == Home(one.root).hasher()("ada") != two.hasher()("ada")
    assert (one.root / "secret.key").stat().st_mode & 0o077 == 0


def test_an_unwritable_home_is_refused_with_the_fix(tmp_path: Path) -> None:
    """A file where the folder should be gives an error that names --home."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="--home"):
        Home(tmp_path / "file" / "home").init()


def test_only_a_living_daemon_counts(tmp_path: Path) -> None:
    """What a killed daemon left behind is not taken for a running one."""
    home = Home(tmp_path)
    home.init()
    assert home.daemon() is None
    home.announce("http://127.0.0.1:1")
    assert home.daemon() == {"pid": os.getpid(), "url": "http://127.0.0.1:1"}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    home.daemon_file.write_text(json.dumps({"pid": ended.pid, "url": "http://127.0.0.1:1"}))
    assert home.daemon() is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc tells when a process started")
def test_another_process_with_the_daemons_number_is_no_daemon(tmp_path: Path) -> None:
    """After kill -9 the number may be anybody's, in a container even the next daemon's own."""
    home = Home(tmp_path)
    home.init()
    home.announce("http://127.0.0.1:1")
    left = json.loads(home.daemon_file.read_text())
    home.daemon_file.write_text(json.dumps({**left, "started": "an earlier start"}))
    assert home.daemon() is None


def test_a_home_is_its_owners_alone_whoever_made_it(tmp_path: Path) -> None:
    """What an older version left open to others is closed, and what is made later is closed from the beginning."""
    home = Home(tmp_path / "home")
    home.init()
    for path in (home.root, *home.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    home.init()
    (home.logs / "new.log").write_text("x")
    (home.models / "v1").mkdir()
    assert {path.stat().st_mode & 0o077 for path in (home.root, *home.root.rglob("*"))} == {0}
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert (home.root / "flywheel.toml").stat().st_mode & 0o777 == 0o600


def test_a_group_reads_the_published_files_and_nothing_else(tmp_path: Path) -> None:
    """Its members may pass through the home and read `analytics`; an unknown group is named."""
    home = Home(tmp_path / "home")
    home.init()
    (home.analytics / "analytics.duckdb").write_bytes(b"x")
    home.share(grp.getgrgid(os.getgid()).gr_name)
    assert (home.analytics / "analytics.duckdb").stat().st_mode & 0o777 == 0o640
    assert (home.root.stat().st_mode & 0o777, home.analytics.stat().st_mode & 0o777) == (0o710, 0o750)
    assert (home.root / "secret.key").stat().st_mode & 0o077 == 0
    assert home.models.stat().st_mode & 0o077 == 0
    with pytest.raises(HomeError, match=r"analytics\.group"):
        home.share("no-such-group")
