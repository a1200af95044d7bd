"""What a run is told: how to learn (`Recipe`), what it may use (`ResourceBudget`), which model to make (`Header`).

All are plain values that survive a trip through `snapshot.json`. An unknown key is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from flywheel.settings.choices import Tier
from flywheel.settings.sections import Limits, Trainer


class Plain:
    """A frozen record that reads itself from a mapping of plain values."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown key or a missing one."""
        allowed = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        unknown = set(values) - allowed
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no {', '.join(sorted(unknown))}; it knows {', '.join(sorted(allowed))}"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error


Recipe = Trainer
"""How to learn: `[trainer]` of the settings, as the snapshot keeps it. One record, so that no default stands twice."""


@dataclass(frozen=True)
class ResourceBudget(Plain):
    """What a run may use: wall time, resident memory of each process, threads (0: all cores but one, at least one).

    `processes`: of the tier `full`; 0 is one for each CUDA device.
    """

    minutes: float
    memory_gb: float
    threads: int
    processes: int

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """What `[limits]` of the settings allows."""
        return cls(limits.train_minutes, limits.train_memory_gb, limits.train_threads, limits.train_processes)


@dataclass(frozen=True)
class Header(Plain):
    """Which model a run makes: the version, from which champion, for which index."""

    run_id: str
    version: str
    parent: str
    champion_path: str
    base_path: str
    index_id: str
    seed: int
    tier: Tier
    created_at_ms: int = 0
