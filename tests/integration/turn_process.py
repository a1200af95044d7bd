"""A process that takes one turn of the wheel and kills itself with SIGKILL at the given mark: 0 means never.

Marks stand before and after every write that a turn makes: to the store, to the registry, and to snapshots.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.app import open_local
from flywheel.learning import snapshot as learning
from flywheel.retrieval.registry import Registry
from flywheel.store.evaluation.decisions import Decisions
from flywheel.store.training.pairs import PairTable
from flywheel.store.training.runs import Runs


def main(home: Path, kill_at: int) -> None:
    """Take a turn, or finish the one that was left."""
    marks = itertools.count(1)

    def mark() -> None:
        if next(marks) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def marked(work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            mark()
            result = work(*args, **kwargs)
            mark()
            return result

        return wrapper

    with open_local(home, os.environ) as operations:
        for owner, name in (
            (Runs, "start"),
            (PairTable, "write"),
            (Runs, "update"),
            (learning, "write_snapshot"),
            (Registry, "adopt"),
            (Decisions, "decide"),
            (Runs, "finish"),
        ):
            setattr(owner, name, marked(getattr(owner, name)))
        cycle = operations._in.cycle
        cycle.resume()
        if not operations.sql("select run_id from training_runs").num_rows:
            cycle.turn("manual", None)
        print(json.dumps({"marks": next(marks) - 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
