"""Announces which model is the champion: each switch once on the models topic, in order, through any crash.

The database holds the decision first, and is the outbox. This module decides nothing and switches nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Protocol

log = logging.getLogger(__name__)

_DELIVERY_SECONDS = 30.0


class Switch(Protocol):
    """A decision that gave an alias to a version."""

    @property
    def decision_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def previous(self) -> str | None: ...
    @property
    def alias(self) -> str | None: ...
    @property
    def actor(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def ts_ms(self) -> int: ...


class Outbox(Protocol):
    """Where unannounced switches wait; `flywheel.store.evaluation.decisions.Decisions` fulfils it."""

    def unannounced(self) -> Sequence[Switch]: ...

    def mark_announced(self, decision_id: str, now_ms: int) -> bool: ...


class Announcer:
    """Empties the outbox.

    Steps for each switch: 1. look whether the topic holds it already (only after a start or a failure, because the last
    attempt may have ended between sending and marking), 2. send and wait for the acknowledgement, 3. mark it. After a
    crash between 2 and 3 the next process finds it in 1, so that the topic holds each decision exactly once.

    Args:
        send: (key, value) to the models topic; the future ends when the broker has it.
        announced: the decision ids that the topic holds now.
        index_of: version -> index_id, for readers that load the model.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: Callable[[bytes, bytes], Future[Any]],
        announced: Callable[[], Collection[str]],
        *,
        index_of: Callable[[str], str | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._outbox, self._send, self._announced = outbox, send, announced
        self._index_of, self._now_ms = index_of, now_ms
        self._known: Collection[str] | None = None

    def step(self) -> int:
        """Announce what waits; returns how many it sent. Raises what the broker's future raises."""
        try:
            return sum(self._announce(switch) for switch in self._outbox.unannounced())
        except BaseException:
            self._known = None  # a message may be on the topic although its acknowledgement was lost
            raise

    def _announce(self, switch: Switch) -> bool:
        if self._known is None:
            self._known = frozenset(self._announced())  # 1
        fresh = switch.decision_id not in self._known
        if fresh:
            self._send(b"champion", self._message(switch)).result(_DELIVERY_SECONDS)  # 2
            ids = {"decision_id": switch.decision_id, "version": switch.version}
            log.info("announced %s of %s", switch.kind, switch.version, extra=ids)
        self._outbox.mark_announced(switch.decision_id, self._now_ms())  # 3
        return fresh

    def _message(self, switch: Switch) -> bytes:
        at = datetime.fromtimestamp(switch.ts_ms / 1000, UTC)
        message = {
            "decision_id": switch.decision_id,
            "kind": switch.kind,
            "alias": switch.alias,
            "version": switch.version,
            "previous": switch.previous,
            "index_id": self._index_of(switch.version or ""),
            "actor": switch.actor,
            "reasons": list(switch.reasons),
            "timestamp": at.isoformat(timespec="milliseconds"),
        }
        return json.dumps(message).encode()


def decision_id(message: bytes | None) -> str:
    """The decision id of an announcement; "" for a message of somebody else on the topic, whatever it is."""
    try:
        announcement = json.loads(message or b"{}")
    except (ValueError, RecursionError):
        return ""
    return str(announcement.get("decision_id", "")) if isinstance(announcement, dict) else ""
