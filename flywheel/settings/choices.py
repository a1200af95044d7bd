"""What settings, commands and the API share without loading them: lists of choices, and the name of the file."""

from __future__ import annotations

from typing import Literal

# not beside those who act on them: a command lists them in its help without loading pydantic or numpy
Tier = Literal["adapter", "query_tower", "full"]
TierChoice = Literal["auto", "adapter", "query_tower", "full"]
LiveMetric = Literal["satisfied_ctr", "ctr"]
Habit = Literal["pbm", "cascade", "trust", "random", "poison"]
ModelForm = Literal["sentence-transformers", "onnx", "openvino", "triton", "tei"]
FILE_NAME = "flywheel.toml"
