"""What satisfies is one rule: triggers, stages, commands and analysts count the same pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from flywheel.cli import main
from flywheel.store import Store
from flywheel.store.evaluation.shadow import Ranked
from flywheel.store.published.questions import arm_sums, people_sums
from tests import defaults
from tests.experiments.shadow_world import insert
from tests.store.make import rows

START_MS, DAY_MS = 1_770_000_000_000, 86_400_000
LONG, SHORT, EXACT = ("dwell", 60_000), ("dwell", 29_999), ("dwell", 30_000)
UP, DOWN, CART, BOUGHT, CLICK = (
    (kind, None) for kind in ("thumbs_up", "thumbs_down", "add_to_cart", "purchase", "click")
)
# ten pages, each with what was done to its documents 1 and 2, and whether that satisfied; dwell alone finds two
PAGES: list[tuple[list[tuple[str, int | None]], list[tuple[str, int | None]], bool]] = [
    ([CLICK, LONG], [], True),
    ([EXACT], [SHORT], True),
    ([UP], [], True),
    ([CLICK, CART], [], True),
    ([BOUGHT], [], True),
    ([UP, SHORT], [], True),
    ([DOWN], [BOUGHT], True),
    ([UP, DOWN], [], False),
    ([CLICK, SHORT], [], False),
    ([BOUGHT, DOWN], [CLICK], False),
]
SATISFIED = [number for number, (*_, satisfied) in enumerate(PAGES) if satisfied]
WHOSE = [f"c{number // 2}" for number in range(10)]


def records() -> Iterator[dict[str, Any]]:
    """Two pages for each of five people, who have one arm each."""
    for number, (*done, _) in enumerate(PAGES):
        ts = START_MS + number * 1_000
        seen = {"query_id": f"q{number}", "client_id": WHOSE[number]}
        tags = {"experiment_id": "ten", "arm": ("champion", "challenger")[number // 2 % 2]}
        hits = {"user_query": "q", "query_response_hit_ids": ["1", "2"]}
        yield {**seen, **hits, "timestamp": ts, "query_attributes": tags}
        for doc, kinds in zip("12", done, strict=True):
            for place, (kind, dwell_ms) in enumerate(kinds):
                target = {"object": {"object_id": doc}} | ({"dwell_ms": dwell_ms} if dwell_ms else {})
                yield {**seen, "action_name": kind, "timestamp": ts + 9 + place, "event_attributes": target}


@dataclass(frozen=True)
class Told:
    """A store with the ten pages, the database published from it, and what the commands said of them."""

    store: Store
    published: Path
    plan: dict[str, Any]
    experiment: dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("satisfied")
    home, log, answer = folder / "home", folder / "ubi.ndjson", folder / "answer"
    log.write_text("".join(json.dumps(record) + "\n" for record in records()))

    def ask(*arguments: str) -> Any:
        with pytest.MonkeyPatch.context() as patch, answer.open("w") as printed:
            patch.setattr("sys.stdout", printed)
            assert main(["--home", str(home), *arguments]) == 0
        return json.loads(answer.read_text().splitlines()[-1])

    assert main(["--home", str(home), "init"]) == 0
    ask("import", "feedback", str(log), "--json")
    plan = ask("evaluate", "--plan", "0.5", "--json")
    experiment = ask("evaluate", "--experiment", "ten", "--json")
    with Store.open(home / "flywheel.duckdb", memory_gb=1) as store:
        store.analytics.publish(START_MS)
        yield Told(store, home / "analytics" / "analytics.duckdb", plan, experiment)


def _trigger(told: Told) -> float:
    return told.store.traffic.rates(START_MS, START_MS + DAY_MS, satisfied_ms=30_000).satisfied


def _split(told: Told) -> float:
    told.store.tally.advance(defaults.comparison("ten", "a", "b"), START_MS + DAY_MS)
    return sum(arm.value for arm in told.store.tally.sums("ten").metrics["satisfied_ctr"])


def _before(told: Told) -> float:
    """The covariate of each person is their satisfied pages beyond the usual rate: by it, those that they had."""
    told.store.tally.begin(defaults.comparison("later", "a", "b"), START_MS + DAY_MS)
    statement = "SELECT satisfied FROM experiment_before WHERE experiment_id = 'later' ORDER BY satisfied"
    with told.store.database.read() as con:
        surplus = [value for (value,) in con.execute(statement).fetchall()]
    usual = len(SATISFIED) / len(PAGES)
    had = sorted(sum(WHOSE[number] == person for number in SATISFIED) for person in set(WHOSE))
    assert surplus == pytest.approx([pages - 2 * usual for pages in had])
    return sum(round(value + 2 * usual) for value in surplus)


def _shadow(told: Told) -> float:
    shadows, reading = told.store.shadows, defaults.reading(cap=100)
    curve = {"run_id": ["r"] * 2, "rank": [1, 2], "context": [0, 0], "impressions": [1e3, 1e3]}
    insert(told.store, "click_curves", pa.table(curve | {"relevant_rate": [0.5, 0.4], "irrelevant_rate": [0.1, 0.1]}))
    shadows.begin("shadow", "r", 0)
    progress = shadows.progress("shadow")
    assert progress is not None
    window = shadows.window(progress, START_MS + DAY_MS, 100)
    assert window is not None
    shadows.add_rankings("shadow", "r", [Ranked("q", "q", ["1", "2"], ["2", "1"], 1.0, 1.0)], reading)
    assert shadows.count("shadow", progress, window, reading) == len(PAGES)
    return float(rows(told.store, "SELECT sum(clicks) FROM shadow_clicks")[0][0])


def _arm_sums(told: Told) -> float:
    rows = told.store.sql.query(arm_sums(satisfied_ms=30_000, cap=200)).to_pylist()
    return sum(row["satisfied_ctr_value"] for row in rows if row["calm"])


def _people_sums(told: Told) -> float:
    return float(told.store.sql.query(people_sums(satisfied_ms=30_000)).to_pylist()[0]["satisfied"])


def _planned(told: Told) -> float:
    return float(told.plan["satisfied_ctr"]["rate"] * len(PAGES))


def _judged(told: Told) -> float:
    (test,) = told.experiment["experiments"]
    return sum(arm["satisfied_ctr"] * arm["pages"] for arm in test["arms"].values())


VIEW = "SELECT count(DISTINCT query_id) AS n FROM satisfied WHERE worth_ms >= 30000"


def _view(told: Told) -> float:
    return float(told.store.sql.query(VIEW).to_pylist()[0]["n"])


def _published(told: Told) -> float:
    with duckdb.connect(told.published, read_only=True) as con:
        return float(con.execute(VIEW).fetchall()[0][0])


def _documented(told: Told) -> float:
    """The statement of the analysts' page on clicks and satisfied pages, as it stands there, on what they read."""
    text = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text("utf-8")
    (statement,) = [sql for sql in re.findall(r"^```sql\n(.*?)^```$", text, re.M | re.S) if "as satisfied_ctr" in sql]
    with duckdb.connect(told.published, read_only=True) as con:
        return sum(row[2] * row[4] for row in con.execute(statement).fetchall())


PLACES = {
    "the trigger's figure": _trigger,
    "the split's sums": _split,
    "what people did before": _before,
    "the shadow": _shadow,
    "evaluate --experiment": _judged,
    "its sums": _arm_sums,
    "evaluate --plan": _planned,
    "its own sums": _people_sums,
    "the view": _view,
    "the published view": _published,
    "the analysts' page": _documented,
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_finds_the_same_pages_satisfied(told: Told, place: str) -> None:
    """Of ten pages with dwells, votes, carts, purchases and thumbs down, seven satisfied, wherever one asks."""
    assert PLACES[place](told) == pytest.approx(len(SATISFIED)) == 7


def test_the_view_names_the_documents_that_satisfied(told: Told) -> None:
    """Row by row: the page, its document, and what it is worth; a vote down leaves nothing of a purchase."""
    rows = told.store.sql.query("FROM satisfied ORDER BY query_id, doc_id").to_pylist()
    worth = {(row["query_id"], row["doc_id"]): row["worth_ms"] for row in rows}
    without_bound = 2**63 - 1
    assert {key: value for key, value in worth.items() if (value or 0) >= 30_000} == {
        ("q0", "1"): 60_000,
        ("q1", "1"): 30_000,
        ("q2", "1"): without_bound,
        ("q3", "1"): without_bound,
        ("q4", "1"): without_bound,
        ("q5", "1"): without_bound,
        ("q6", "2"): without_bound,
    }
    assert (worth[("q1", "2")], worth[("q8", "1")], worth[("q9", "1")], worth[("q9", "2")]) == (
        29_999,
        29_999,
        None,
        None,
    )
    assert {(row["query_id"], row["doc_id"]) for row in rows if row["voted_down"]} == {
        ("q6", "1"),
        ("q7", "1"),
        ("q9", "1"),
    }
    assert {row["query_id"] for row in rows if row["clicked"]} == {"q0", "q3", "q8", "q9"}
