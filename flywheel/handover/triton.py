"""A model repository for NVIDIA Triton: one model for each side, one numbered folder for each version."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from flywheel.handover.graph import OUTPUT
from flywheel.handover.sides import HandoverRefused, OneSide

MAX_BATCH = 64
QUEUE_MICROSECONDS = 2_000
KEPT = 2


def number_of(version: str) -> int:
    """Triton's number of a version: 1 for the base model, n + 1 for vn, so that a later version has a higher one.

    Raises:
        HandoverRefused: the name has no number.
    """
    if version == "base":
        return 1
    named = re.fullmatch(r"v(\d+)", version)
    if named is None:
        raise HandoverRefused(f"Triton's versions are numbers, and {version} has none")
    return int(named.group(1)) + 1


def configuration(name: str, side: OneSide, inputs: Sequence[str]) -> str:
    """`config.pbtxt`: requests that wait together become one batch, and the last two versions stay loaded.

    Texts reach Triton as token ids: (texts, tokens) of int64 for each input.
    """
    given = ",\n".join(f'  {{ name: "{name}" data_type: TYPE_INT64 dims: [ -1 ] }}' for name in inputs)
    return f"""name: {json.dumps(name)}
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
{given}
]
output [
  {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ {side.dimension} ] }}
]
dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_MICROSECONDS} }}
version_policy {{ latest {{ num_versions: {KEPT} }} }}
parameters {{ key: "prompt" value {{ string_value: {json.dumps(side.prompt)} }} }}
parameters {{ key: "max_tokens" value {{ string_value: "{side.limit}" }} }}
"""


def place(repository: Path, side: OneSide, version: str) -> tuple[Path, str]:
    """The folder for this version's graph, made, and the model's name.

    Raises:
        HandoverRefused: the repository has this version.
    """
    name = f"flywheel_{side.name}"
    folder = repository / name / str(number_of(version))
    if folder.exists():
        raise HandoverRefused(f"{folder} is there already, and a version never changes")
    folder.mkdir(parents=True)
    return folder, name
