"""Posts what happened to a URL: promotions, rejections, rollbacks, void experiments, and ingestion that stands still.

It runs in a thread of its own and blocks nobody. What could not be delivered waits in order, over restarts too, because
the place in the decisions is kept in the database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from flywheel.operations import Json
from flywheel.settings.watching import Webhooks
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.store import Store

SIGNATURE, TIMESTAMP = "X-Flywheel-Signature", "X-Flywheel-Timestamp"
PLACE = "webhooks"
_WAIT_SECONDS = 2.0
_EVENT_OF = {"promote": "promotion", "reject": "rejection", "rollback": "rollback"}
_REFUSED = 400


class NotDelivered(OSError):  # noqa: N818 - it reads as what it says
    """The receiver did not take an event; it is posted again."""


@dataclass(frozen=True, slots=True)
class Posting:
    """Something that happened; `event_id` is the same at each attempt."""

    event_id: str
    kind: str
    at_ms: int
    facts: Mapping[str, Any]

    def body(self) -> bytes:
        at = datetime.fromtimestamp(self.at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"event_id": self.event_id, "event": self.kind, "timestamp": at, **self.facts}).encode()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=` and the HMAC-SHA256 of "TIMESTAMP.BODY", in hexadecimal: RFC 2104, as receivers know it."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


class Messenger:
    """Posts events, one after the other; `step` is one pass for a `Repeater`, which waits longer after each failure.

    `stalled` says for how many seconds ingestion has stood still, and why.
    """

    def __init__(
        self,
        store: Store,
        settings: Webhooks,
        *,
        stalled: Callable[[], tuple[float, str | None]],
        now_ms: Callable[[], int],
    ) -> None:
        self._store, self._settings = store, settings
        self._stalled, self._now_ms = stalled, now_ms

    def step(self) -> float:
        """Post what happened since the last event that was taken; returns the seconds to wait.

        Raises:
            NotDelivered: the receiver is away or refuses; nothing after it was posted.
        """
        if not self._settings.url:
            return 3_600.0
        place = dict(self._store.state.get(PLACE, {}) or {"decisions": len(self._store.decisions.all())})
        self._keep(place)
        decisions = self._store.decisions.all()
        for number, decision in enumerate(decisions[place["decisions"] :], place["decisions"] + 1):
            for event in _events(decision):
                self._post(event)
            place["decisions"] = number
            self._keep(place)
        self._tell_of_the_standstill(place)
        return _WAIT_SECONDS

    def _tell_of_the_standstill(self, place: dict[str, Any]) -> None:
        seconds, why = self._stalled()
        stands = seconds >= self._settings.stalled_seconds
        if stands and not place.get("stalled"):
            now = self._now_ms()
            facts = {"seconds": round(seconds), "reason": why, "headline": f"Ingestion stands still: {why}."}
            self._post(Posting(f"stalled-{now}", "stalled", now, facts))
        if stands != bool(place.get("stalled")):
            place["stalled"] = stands
            self._keep(place)

    def _keep(self, place: Json) -> None:
        if self._store.state.get(PLACE) != place:
            self._store.state.set(PLACE, place, self._now_ms())

    def _post(self, event: Posting) -> None:
        settings = self._settings
        if event.kind not in settings.events:
            return
        body, timestamp = event.body(), str(self._now_ms() // 1_000)
        headers = {"Content-Type": "application/json", TIMESTAMP: timestamp}
        if settings.secret:
            headers[SIGNATURE] = signature(settings.secret, timestamp, body)
        try:
            answer = httpx.post(settings.url, content=body, headers=headers, timeout=settings.timeout_seconds)
        except httpx.HTTPError as error:
            raise NotDelivered(f"webhooks.url does not answer: {type(error).__name__}: {error}") from error
        if answer.status_code >= _REFUSED:
            raise NotDelivered(f"webhooks.url answered {answer.status_code}")


def _events(decision: Decision) -> Iterator[Posting]:
    """A promotion is a switch that was decided; an experiment that compared nothing is void."""
    kind = _EVENT_OF.get(decision.kind)
    void = decision.evidence.get("void")
    if kind == "promotion" and decision.alias != CHAMPION:
        kind = None  # a verdict that waits for somebody's word
    if decision.kind == "manual":
        kind = "promotion"
    facts = {
        "decision_id": decision.decision_id,
        "version": decision.version,
        "previous": decision.previous,
        "actor": decision.actor,
        "headline": decision.reasons[0] if decision.reasons else "",
        "reasons": list(decision.reasons),
    }
    if void:
        yield Posting(f"{decision.decision_id}-void", "void", decision.ts_ms, facts | {"void": void})
    elif kind:
        yield Posting(decision.decision_id, kind, decision.ts_ms, facts)
