"""Webhooks, against a receiver on a real socket: which events, signed, in order, again until they are taken."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flywheel.daemon.webhooks import Messenger, NotDelivered
from flywheel.settings.watching import Webhooks
from flywheel.store.evaluation.decisions import Decision
from flywheel.store.store import Store

NOW = 1_770_000_000_000


@dataclass
class Receiver:
    """What a receiver took, and the status that it answers."""

    url: str = ""
    status: int = 204
    taken: list[tuple[dict[str, str], dict[str, Any], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.status < 400:
                found.taken.append((dict(self.headers), json.loads(body), body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()
    server.server_close()


def _decide(store: Store, number: int, kind: str, **more: Any) -> None:
    row = Decision(f"d{number}", kind, None, "flywheel", NOW + number, reasons=(f"{kind} {number}.",), **more)
    store.decisions.decide(row)


def _messenger(store: Store, url: str, still: tuple[float, str | None] = (0.0, None), **settings: Any) -> Messenger:
    return Messenger(store, Webhooks(url=url, **settings), stalled=lambda: still, now_ms=lambda: NOW)


def test_what_happens_after_the_start_is_posted_and_signed(tmp_path: Path, receiver: Receiver) -> None:
    """Rejections, rollbacks and void experiments are posted in order, with the sentence and a valid signature."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        _decide(store, 1, "reject")
        messenger = _messenger(store, receiver.url, secret="key")
        messenger.step()
        assert receiver.taken == [], "what was before the start is no news"
        _decide(store, 2, "reject")
        _decide(store, 3, "inconclusive", evidence={"void": "sample ratio mismatch"})
        _decide(store, 4, "rollback")
        _decide(store, 5, "inconclusive")
        _decide(store, 6, "promote")
        messenger.step()
        messenger.step()
    told = [(event["event_id"], event["event"], event["headline"]) for _, event, _ in receiver.taken]
    assert told == [
        ("d2", "rejection", "reject 2."),
        ("d3-void", "void", "inconclusive 3."),
        ("d4", "rollback", "rollback 4."),
    ], "a verdict of promote that waits for somebody's word is no promotion"
    headers, _, body = receiver.taken[0]
    signed = hmac.new(b"key", f"{headers['X-Flywheel-Timestamp']}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-Flywheel-Signature"] == f"sha256={signed}"


def test_what_was_refused_is_posted_again_after_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    """A receiver that answers 503 gets each event once it takes it, in order, from the next process too."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        messenger = _messenger(store, receiver.url)
        messenger.step()
        for number in (1, 2):
            _decide(store, number, "reject")
        receiver.status = 503
        for _ in range(3):
            with pytest.raises(NotDelivered, match="answered 503"):
                messenger.step()
        assert receiver.taken == []
        receiver.status = 200
        _messenger(store, receiver.url).step()
    assert [event["event_id"] for _, event, _ in receiver.taken] == ["d1", "d2"]


def test_a_standstill_is_told_once_until_it_ends(tmp_path: Path, receiver: Receiver) -> None:
    """Ingestion that stands still longer than asked is one event with its reason, and again after it has moved."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        for still in (100.0, 400.0, 500.0, 0.0, 301.0):
            _messenger(store, receiver.url, (still, "3 MB are free")).step()
    assert [(event["event"], event["seconds"]) for _, event, _ in receiver.taken] == [
        ("stalled", 400),
        ("stalled", 301),
    ]
    assert receiver.taken[0][1]["headline"] == "Ingestion stands still: 3 MB are free."


def test_events_that_nobody_asked_for_are_left_out(tmp_path: Path, receiver: Receiver) -> None:
    """`webhooks.events` chooses; without an URL nothing is posted and nothing is kept."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        _messenger(store, "").step()
        assert store.state.get("webhooks") is None
        chosen = _messenger(store, receiver.url, events=("rollback",))
        chosen.step()
        _decide(store, 1, "reject")
        _decide(store, 2, "rollback")
        chosen.step()
    assert [event["event"] for _, event, _ in receiver.taken] == ["rollback"]
