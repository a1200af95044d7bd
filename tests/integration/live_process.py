"""A process that takes a challenger through every live stage and kills itself with SIGKILL at a mark: 0 means never.

Marks stand before each transaction of the database commits and after, and before and after each message is sent. What
stands for the models topic is a file that is appended to; the announcer, the director and the store are the real ones.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flywheel.daemon.announce import Announcer
from flywheel.store import Store
from flywheel.store.schema.database import Database
from tests.experiments.live_world import EQUAL, World, settings

CONFIG = settings("offline", "interleaving", "split", ramp=(0.5,), max_days=400, holdback_days=400)
QUALITIES = {"v0": EQUAL, "v1": EQUAL}


def main(folder: Path, kill_at: int) -> None:
    """Look until nothing moves, announcing what was decided after each look."""
    marks = itertools.count(1)

    def mark() -> None:
        if next(marks) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    topic = folder / "topic.jsonl"

    def send(_key: bytes, value: bytes) -> Future[None]:
        mark()
        with topic.open("ab") as file:
            file.write(value + b"\n")
        mark()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    with Store.open(folder / "a.duckdb", memory_gb=0.5, threads=1, watermark_minutes=0) as store:
        _mark_transactions(mark)
        world = World(store, CONFIG, QUALITIES, day=int((folder / "day").read_text()))
        announcer = Announcer(
            store.decisions, send, lambda: announced(topic), index_of=lambda _: "space", now_ms=world.now_ms
        )
        moved = True
        while moved:
            moved = world.director.step()
            announcer.step()
    print(json.dumps({"marks": next(marks) - 1}))


def announced(topic: Path) -> set[str]:
    """Decision ids that stand in the file."""
    lines = topic.read_text().splitlines() if topic.exists() else []
    return {json.loads(line)["decision_id"] for line in lines}


def _mark_transactions(mark: object) -> None:
    write = Database.write

    @contextmanager
    def marked(self: Database) -> Iterator[duckdb.DuckDBPyConnection]:
        outermost = self._depth == 0
        with write(self) as con:
            yield con
            if outermost:
                mark()  # type: ignore[operator]
        if outermost:
            mark()  # type: ignore[operator]

    Database.write = marked  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
