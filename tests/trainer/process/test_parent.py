"""A process ends with the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

_CHILD = (
    "import sys, time; from trainer.process.parent import end_with; end_with(int(sys.argv[1])); "
    "print('up', flush=True); time.sleep(60)"
)
_PARENT = (
    "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())], "
    "stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()"
)


_BECOMES = (
    "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-m', "
    "'trainer.process.parent', str(os.getpid()), "
    "sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE); child.stdout.readline(); "
    "print(child.pid, flush=True); sys.stdin.read()"
)


@pytest.mark.skipif(sys.platform != "linux", reason="only this kernel tells a process that its parent is gone")
def test_a_command_started_through_it_ends_with_its_starter() -> None:
    """kill -9 of the starter ends a command that knows nothing of it."""
    command = "import time; print('up', flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", _BECOMES, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _runs(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline, "the orphan runs on"
        time.sleep(0.05)


def test_an_orphan_ends_after_its_parent_was_killed() -> None:
    """kill -9 of the starter ends the started one within seconds, though nobody told it."""
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline, "the orphan runs on"
        time.sleep(0.05)


def test_whoever_starts_too_late_ends_at_once() -> None:
    """A parent that is gone before the watch begins is noticed as well."""
    late = subprocess.run([sys.executable, "-c", _CHILD, str(os.getppid())], capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (1, b"")


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie that waits for its reaper."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.startswith("Z")
