"""What a training run is told: how to learn (`Recipe`), what it may use (`ResourceBudget`), whom it serves (`Header`).

Plain values that survive a trip through `snapshot.json`; a key that nobody knows is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

Tier = Literal["adapter", "query_tower", "full"]


class Plain:
    """A frozen record that reads itself from a mapping of plain values."""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Raises ValueError for an unknown key or a missing one."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}; it knows {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error


@dataclass(frozen=True)
class Recipe(Plain):
    """How to learn; the fields of `[trainer]` in the configuration, whose descriptions hold here too."""

    base_model: str = "auto"
    tier: Tier = "query_tower"
    learning_rate: float = 5e-5
    steps: int = 120
    batch_size: int = 128
    scale: float = 30.0
    layers: int | Literal["all"] = 2
    lora_rank: int = 0
    exact_documents: int = 200_000
    rejected_weight: float = 10.0
    loss: Literal["ranking", "triplet"] = "ranking"
    matryoshka: Sequence[int] = ()
    hard_negatives: int = 2
    negative_sources: Sequence[str] = ("mined", "bm25")
    negative_depth: int = 100
    negative_margin: float = 0.95
    teacher: str = ""
    teacher_loss: Literal["kl", "margin_mse"] = "kl"
    teacher_weight: float = 1.0
    curated_share: float = 0.2
    replay_share: float = 0.5
    replay_size: int = 20_000
    distil: float = 30.0
    variants: int = 6
    merge: float = 0.85
    probes: int = 2_000
    probe_weight: float = 10.0
    probe_far: float = 4.0
    dev_share: float = 0.1
    bf16: Literal["auto", "on", "off"] = "auto"
    device: str = "auto"
    seed: int = 0
    max_seq_length: int = 256


@dataclass(frozen=True)
class ResourceBudget(Plain):
    """What a run may use: wall time, resident memory of each process, threads (0: all cores but one, at least one).

    `processes`: of the tier `full`; 0 is one for each CUDA device.
    """

    minutes: float = 60.0
    memory_gb: float = 8.0
    threads: int = 0
    processes: int = 0


@dataclass(frozen=True)
class Header(Plain):
    """Whom a run serves: the version to make, from which champion, for which index."""

    run_id: str
    version: str
    parent: str
    champion_path: str
    base_path: str
    index_id: str
    seed: int = 0
    tier: Tier = "query_tower"
    created_at_ms: int = 0
