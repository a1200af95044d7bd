"""How much memory this process may use, how much it uses, and the refusal of work that would take it further."""

from __future__ import annotations

import os
from pathlib import Path

_OF_MACHINE = 0.8  # where nothing is set: the rest is the system's and other programs'
_GB, _MB = 1_000_000_000, 1_000_000
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class MemoryExceeded(Exception):  # noqa: N818 - reads as what is the case
    """Work that grows with the data was not begun; what is there goes on."""


class MemoryBudget:
    """The process as a whole against `limits.memory_gb`; None takes a share of the machine, or of its container."""

    def __init__(self, memory_gb: float | None) -> None:
        self.limit_bytes = int(memory_gb * _GB) if memory_gb else int(_machine_bytes() * _OF_MACHINE)

    @property
    def used_bytes(self) -> int:
        """Memory of this process alone that the kernel cannot take back; 0 where it does not say."""
        try:
            lines = Path("/proc/self/status").read_text("ascii").splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1_024 for line in lines if line.startswith("RssAnon"))

    def check(self, work: str) -> None:
        """Refuse work that grows with the data while there is no room for it.

        Raises:
            MemoryExceeded: the message names the setting.
        """
        used = self.used_bytes
        if used > self.limit_bytes:
            raise MemoryExceeded(
                f"{work} waits: {used // _MB} MB are in use, limits.memory_gb allows {self.limit_bytes // _MB} MB. "
                "Raise it, or lower limits.duckdb_memory_gb, or keep fewer documents; searches go on"
            )

    def status(self, shares: dict[str, int]) -> dict[str, int]:
        """In megabytes: what may be used, what is, and the shares of what grows with the data."""
        figures = {"limit_mb": self.limit_bytes // _MB, "used_mb": self.used_bytes // _MB}
        return figures | {f"{name}_mb": size // _MB for name, size in shares.items()}


def _machine_bytes() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        container = int(_CGROUP.read_text("ascii"))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine
    return min(machine, container)
