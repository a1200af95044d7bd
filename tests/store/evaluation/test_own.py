"""Metrics of the product's own: the same sums as counting page by page in Python, each page once, people erased."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from flywheel.events import Event, Kind, Query
from flywheel.stats.ratio import ArmSums
from flywheel.stats.winsor import winsorised
from flywheel.store import Store
from flywheel.store.evaluation.own import OwnRule
from tests import defaults
from tests.store.make import DAY, NOW, batch, event, query, rows

RULES = {
    "conversion": OwnRule(event="purchase"),
    "buyers": OwnRule(event="purchase", over="user"),
    "orders": OwnRule(event="purchase", value="count", over="user"),
    "revenue": OwnRule(event="purchase", value="order.total", winsorise=0.9),
    "price": OwnRule(event="purchase", value="order.total", over="event", winsorise=0.9),
    "first_click": OwnRule(event="click", value="delay_s", over="event", winsorise=1.0),
    "saved": OwnRule(event="Saved Item"),
    "basket": OwnRule(page="basket", over="event", winsorise=1.0),
}
OURS = defaults.comparison("x", "v0", "v1", own=RULES)
ARMS = ("champion", "challenger")


def stream(seed: int, people: int = 60, pages: int = 500) -> tuple[list[Query], list[Event]]:
    """Four weeks of pages, the last two of them in an experiment; orders with heavy tails and refunds."""
    rng = np.random.default_rng(seed)
    shown, done = [], []
    for number in range(pages):
        person, ts = int(rng.integers(people)), NOW + int(rng.integers(-14 * DAY, 14 * DAY))
        tagged = {"experiment_id": "x", "arm": ARMS[person % 2]} if ts >= NOW else {}
        told = {"basket": float(rng.integers(9))} if rng.random() < 0.5 else {"basket": "none"}
        name = f"q{number}"
        shown.append(query(name, ts, client_key=f"p{person}", attributes=json.dumps(told), **tagged))
        for time in range(int(rng.poisson(0.5))):
            total = json.dumps({"order": {"total": round(float(rng.pareto(1.5) * 20 - 5), 2)}, "n": time})
            attributes = total if rng.random() < 0.9 else json.dumps({"order": {"total": "unknown"}})
            done.append(event(f"b{number}-{time}", ts + 60_000, Kind.PURCHASE, query_id=name, attributes=attributes))
        delays = rng.integers(-500, 90_000, int(rng.poisson(0.8)))
        done += [event(f"c{number}-{time}", ts + int(delay), query_id=name) for time, delay in enumerate(delays)]
        if rng.random() < 0.1:
            saved = event(f"s{number}", ts + 5, Kind.OTHER, query_id=name)
            done.append(replace(saved, action_name="Saved Item"))
    return shown, done


def brought(name: str, page: Query, told: list[Event]) -> tuple[float, float] | None:
    """What one page brought of a metric, and how often; None where it has none."""
    rule = RULES[name]
    if rule.page:
        basket = json.loads(str(page.attributes))["basket"]
        return None if basket == "none" else (float(basket), 1.0)
    mine = [e for e in told if rule.event in {e.kind.value, e.action_name}]
    totals = [json.loads(e.attributes)["order"]["total"] for e in mine if e.attributes] if "." in rule.value else []
    numbers = [total for total in totals if total != "unknown"]
    match rule.value if mine else "nothing":
        case "any":
            return 1.0, 1.0
        case "count":
            return float(len(mine)), float(len(mine))
        case "delay_s":
            return max(0.0, (min(e.timestamp_ms for e in mine) - page.timestamp_ms) / 1_000), 1.0
        case "order.total" if numbers:
            return sum(numbers), float(len(numbers))
    return None


def counted(name: str, shown: list[Query], done: list[Event]) -> list[ArmSums]:
    """The second source: page by page, then cut by `flywheel.stats.winsor`, then centred."""
    rule, by_page = RULES[name], defaultdict(list)
    for happened in done:
        by_page[happened.query_id].append(happened)
    people: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(6))  # value, events, pages; the same before
    arm_of = {}
    for page in shown:
        place = 0 if page.arm else 3
        found = brought(name, page, by_page[page.query_id]) or (0.0, 0.0)
        people[str(page.client_key)][place : place + 3] += (*found, 1.0)
        if page.arm:
            arm_of[str(page.client_key)] = page.arm
    columns = []
    for person, arm in arm_of.items():
        value, events, pages, before, events_before, pages_before = people[person]
        once = rule == RULES["buyers"]
        value, before = (min(value, 1.0), min(before, 1.0)) if once else (value, before)
        weights = {"page": (pages, pages_before), "user": (1.0, min(1.0, pages_before))}
        x, x_before = weights.get(rule.over, (events, events_before))
        if x > 0:
            over, over_before = (x, x_before) if rule.over == "event" else (1.0, 1.0)
            columns.append((arm, x, value / over, over, x_before, before / (over_before or 1.0), over_before))
    table = {"both": np.array([row[1:] for row in columns])}
    cut = winsorised(table, columns=(1, 4), quantile=rule.winsorise)["both"]
    x, y, x_before, y_before = cut[:, 0], cut[:, 1] * cut[:, 2], cut[:, 3], cut[:, 4] * cut[:, 5]
    z = y_before - y_before.sum() / x_before.sum() * x_before
    mine = [np.array([row[0] == arm for row in columns]) for arm in ARMS]
    return [ArmSums.of(y[here], x[here], z[here]) for here in mine]


@pytest.mark.parametrize("seed", range(2))
def test_the_sums_are_those_of_counting_page_by_page(store: Store, seed: int) -> None:
    """Of every kind of metric, in slices and with late feedback, cut and with what was before."""
    shown, done = stream(seed)
    early = {page.query_id for page in shown if page.timestamp_ms < NOW + 7 * DAY}
    first = [e for e in done if e.query_id in early]
    store.feedback.ingest(batch(queries=[q for q in shown if q.query_id in early], events=first), "c", NOW)
    store.tally.begin(OURS, NOW)
    store.tally.begin(OURS, NOW)
    store.tally.advance(OURS, NOW + 7 * DAY)
    late = [e for e in done if e.query_id not in early]
    rest = batch(queries=[q for q in shown if q.query_id not in early], events=late, start=10_000)
    store.feedback.ingest(rest, "c", NOW)
    store.tally.advance(OURS, NOW + 15 * DAY)
    found = store.tally.sums("x", RULES)
    for name in RULES:
        for ours, theirs in zip(found.metrics[name], counted(name, shown, done), strict=True):
            assert ours.as_dict() == pytest.approx(theirs.as_dict(), rel=1e-9, abs=1e-6), name
    assert found.steady["revenue"][0].users <= found.metrics["revenue"][0].users
    store.tally.forget_people("x")
    assert rows(store, "SELECT count(*) FROM experiment_own") == [(0,)]


def test_whoever_is_erased_is_in_no_metric(store: Store) -> None:
    """`erase-user` takes a person's rows of the product's own metrics too."""
    shown, done = stream(3, pages=100)
    store.feedback.ingest(batch(queries=shown, events=done), "c", NOW)
    store.tally.begin(OURS, NOW)
    store.tally.advance(OURS, NOW + 15 * DAY)
    person = rows(store, "SELECT person FROM experiment_own WHERE value > 0 LIMIT 1")[0][0]
    store.erasure.erase_user([person])
    assert rows(store, f"SELECT count(*) FROM experiment_own WHERE person = '{person}'") == [(0,)]
