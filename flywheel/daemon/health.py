"""What the running daemon says of itself: whether it answers searches, and apart from that whatever is in trouble."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumers.ingest import Ingest
from consumers.kafka import KafkaSource
from flywheel.broker.producer import Producer
from flywheel.daemon.jobs import Jobs
from flywheel.daemon.pulse import Pulse, described
from flywheel.daemon.repeater import Repeater
from flywheel.gates.triggers import Measurements
from flywheel.operations import Json
from flywheel.serving.engine import SearchEngine
from flywheel.settings.home import Home
from flywheel.settings.load import Config
from flywheel.store.published.analytics import FILE_NAME

_MB = 1_048_576


@dataclass(frozen=True)
class Health:
    """Looks at the parts of the daemon, and changes none.

    `threads` are those that must live as long as the daemon, `measured` the last measurements of the triggers.
    """

    home: Home
    config: Config
    engine: SearchEngine
    producer: Producer
    source: KafkaSource
    ingest: Ingest
    pulse: Pulse
    loops: Sequence[Repeater]
    jobs: Jobs
    topics_ready: Callable[[], bool]
    threads: Callable[[], Sequence[threading.Thread]]
    measured: Callable[[], Measurements | None]

    def not_ready(self) -> list[str]:
        """Why searches are not answered. A broker, a disk or a publisher that is away does not keep anybody from it."""
        if self.engine.live is not None:
            return []
        loading = next((loop.error for loop in self.loops if loop.name == "index" and loop.error), None)
        return ["the champion is being loaded and indexed" + (f" ({loading})" if loading else "")]

    def problems(self) -> dict[str, str]:
        """Every part in trouble, with the reason."""
        found = {loop.name: loop.error for loop in self.loops if loop.error is not None}
        found |= self.jobs.errors
        found |= {thread.name: "its thread has ended" for thread in self.threads() if not thread.is_alive()}
        _, why = self.pulse.stalled(self.ingest.state)
        if why is not None:
            found["ingest"] = why
        if self.ingest.state.blocked:
            found["topics"] = "; ".join(self.ingest.state.blocked)
        if self.producer.pending and self.producer.error:
            found["publishing"] = self.producer.error
        return found

    def status(self, uptime: float) -> Json:
        """The daemon's part of `flywheel status`."""
        state, kafka = self.ingest.state, self.config.kafka
        measured = self.measured()
        return {
            "uptime": round(uptime, 1),
            "broker": {
                "bootstrap": kafka.bootstrap,
                "phase": state.phase,
                "error": state.error,
                "cluster_id": state.cluster_id,
                "unsent": self.producer.pending,
                "topics": self.topics_ready(),
            },
            "ingest": described(state, self.pulse, self.source.lags()),
            "problems": self.problems(),
            "ready": self.not_ready(),
            "disk": {
                "free_bytes": shutil.disk_usage(self.home.root).free,
                "needed_bytes": self.config.limits.min_free_mb * _MB,
            },
            "analytics": {"age_seconds": self._analytics_age()},
            "rates": {
                "ctr": measured.ctr if measured else None,
                "satisfied_ctr": measured.satisfied_ctr if measured else None,
            },
        }

    def _analytics_age(self) -> float | None:
        try:
            return round(max(0.0, time.time() - (self.home.analytics / FILE_NAME).stat().st_mtime), 1)
        except FileNotFoundError:
            return None
