"""The home is one folder: made once, with a secret of its own, and it knows who serves it."""

from __future__ import annotations

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
