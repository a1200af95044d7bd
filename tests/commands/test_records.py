"""What came in, from the command line: imports that say what they left out, the last hour, letters read again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from flywheel.cli import main
from flywheel.events import Batch, Coordinates, DeadLetter
from flywheel.settings.home import Home
from flywheel.settings.load import Kafka
from flywheel.store import Store

NOW = "2026-03-01T09:30:00.000Z"
PAGE = {"query_id": "q1", "user_query": "a bag", "timestamp": NOW, "application": "shop"}
FACET = PAGE | {"query_response_hit_ids": []}
HITS = PAGE | {"query_response_object_ids": ["d1", None, "d2"], "query_attributes": []}
CLICK = {"action_name": "item_click", "query_id": "q1", "timestamp": NOW, "application": "shop"}
LINES = [
    FACET,
    {"_index": "ubi_queries", "_id": "1", "_source": HITS},
    CLICK,
    CLICK | {"action_name": "click", "event_attributes": {"position": {"ordinal": "N/A"}}},
    {"timestamp": NOW, "text": "neither"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "home"
    assert main(["--home", str(folder), "init"]) == 0
    letter = json.dumps({"event": "click", "search": "q1", "at": NOW}).encode()
    batch = Batch()
    for offset in range(2):
        at = Coordinates(Kafka().topic_events, 0, offset)
        batch.dead_letters.append((at, DeadLetter(letter, "action_name is missing", int(time.time() * 1_000))))
    with Store.open(Home(folder).database, memory_gb=1) as store:
        store.feedback.ingest(batch, "c", int(time.time() * 1_000))
    return folder


def answer(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str) -> Any:
    capsys.readouterr()
    code = main(["--home", str(home), *arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def test_what_came_in_is_told_and_letters_are_replayed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import says what it merged and left out; `doctor --events` shows it by sender with a suggestion; letters are
    listed, shown, and after a mend stored once."""
    file = tmp_path / "history.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in LINES))
    told = answer(capsys, home, "import", "feedback", str(file))
    assert (told["read"], told["stored"]) == (5, 3)
    assert told["reasons"] == {
        "put together with another record of its query_id": 1,
        "neither a UBI query (user_query) nor an event (action_name)": 1,
    }
    assert told["ignored"] == {
        "query_response_hit_ids has an empty entry": 1,
        "event_attributes.position.ordinal is not a number": 1,
    }
    assert told["unknown_actions"] == {"item_click": 1}
    assert answer(capsys, home, "sql", "select hit_ids from queries") == [{"hit_ids": ["d1", "d2"]}]

    seen = answer(capsys, home, "doctor", "--events")
    assert {row["outcome"] for row in seen["arrivals"]} == {"stored", "left out", "set aside"}
    assert {row["application"] for row in seen["arrivals"] if row["outcome"] != "set aside"} == {"shop"}
    assert seen["suggestion"] == 'action_names = {"item_click" = "click"}'
    assert main(["--home", str(home), "doctor", "--events"]) == 0
    assert "N/A" in capsys.readouterr().out

    listed = answer(capsys, home, "dead-letters", "list")
    (group,) = listed["groups"]
    assert (listed["waiting"], group["letters"], group["reason"]) == (2, 2, "action_name is missing")
    assert main(["--home", str(home), "dead-letters", "list"]) == 0
    place = f"{Kafka().topic_events}/0/1"
    (shown,) = answer(capsys, home, "dead-letters", "show", place)
    assert json.loads(shown["payload"])["search"] == "q1"
    assert main(["--home", str(home), "dead-letters", "show", "nonsense"]) == 2
    assert main(["--home", str(home), "dead-letters", "show", "x/0/1"]) == 1

    assert answer(capsys, home, "dead-letters", "replay")["still"] == 2
    monkeypatch.setenv(
        "FLYWHEEL__MAPPING__EVENTS", '{"action_name" = "event", "query_id" = "search", "timestamp" = "at"}'
    )
    first, again = (answer(capsys, home, "dead-letters", "replay") for _ in range(2))
    assert (first["stored"], first["repeated"]) == (1, 1)  # both have the same bytes, so they are one event
    assert (again["stored"], again["still"]) == (0, 0)
    assert answer(capsys, home, "dead-letters", "list") == {"waiting": 0, "groups": []}
