"""How a training run may end, and what its starter finds then; it loads neither torch nor the model library.

| exit code | report beside the model directory | model directory |
|---|---|---|
| 0 | `{"error": null, "steps": …, "dev": …, …}` | complete |
| 4 | `{"error": null, "nothing": reason, "tried": […], …}`: an answer, the champion is as good as it gets | none |
| 1 | `{"error": reason}` | none |

`tried` has for each learning rate: `learning_rate`, `steps`, `why` it was given up, and the last score `dev` of the
held-out queries. A run that was killed leaves no report; the same call goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEARNED, FAILED, NOTHING = 0, 1, 4


class NothingLearned(Exception):  # noqa: N818 - reads as what is the case
    """The run came to its end and has nothing better than the champion; `facts` say what was tried."""

    def __init__(self, reason: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.facts = reason, dict(facts or {})
