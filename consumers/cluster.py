"""What the client last heard of the cluster: whether it is alive, who it is, and which log each topic is."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any


class Metadata:
    """Written by the client's own thread."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self._cluster_id = ""
        self._topic_ids: dict[str, object] = {}

    def note(self, cluster: Any) -> None:
        ids = {topic: cluster.topic_id(topic) for topic in self._topics}
        with self._lock:
            self._heard = time.monotonic()
            self._cluster_id = str(cluster.cluster_id)
            self._topic_ids |= {topic: topic_id for topic, topic_id in ids.items() if topic_id is not None}

    @property
    def cluster_id(self) -> str:
        with self._lock:
            return self._cluster_id

    @property
    def topic_ids(self) -> dict[str, object]:
        with self._lock:
            return dict(self._topic_ids)

    def silent(self, seconds: float) -> bool:
        return time.monotonic() - self._heard > seconds
