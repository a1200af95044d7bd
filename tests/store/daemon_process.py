"""Ingests and publishes without end, from wherever the database says; for tests that kill it.

Run as `python -m tests.store.daemon_process FOLDER ingest|publish`; writes a line after each step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flywheel.store import Store
from tests.store.make import DAY, NOW, batch, event, query

SIZE = 200


def main(folder: Path, publish: bool) -> None:
    """Step after step, until killed."""
    with Store.open(folder / "flywheel.duckdb", memory_gb=0.3, threads=1) as store:
        while True:
            start = store.feedback.offsets("cluster").get(("ubi.events", 0), 0)
            numbers = range(start, start + SIZE)
            store.feedback.ingest(
                batch(
                    events=[event(f"e{n}", NOW + n * DAY // 500) for n in numbers],
                    queries=[query(f"q{n}", NOW + n * DAY // 500) for n in numbers],
                    start=start,
                ),
                "cluster",
                NOW + start,
            )
            if publish:
                store.analytics.publish(NOW + start)
            print(start, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "publish")
