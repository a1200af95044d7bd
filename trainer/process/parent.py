"""Ends a process when its starter is gone: two trainers must never share a directory, nor two daemons a home.

`python -m trainer.process.parent PID COMMAND…` becomes COMMAND, which ends with process PID where the kernel allows.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Die with process `parent`: at once where the kernel supports it, else within a second."""
    _ask_kernel(parent)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _ask_kernel(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    _ask_kernel(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what our own starter names, without a shell
