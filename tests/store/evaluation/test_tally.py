"""The tally: every page once, whoever it belongs to, and the same sums as counting page by page in Python."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.references import credit
from flywheel.events import Event, Kind, Query
from flywheel.stats.estimate import Estimate
from flywheel.stats.interleaving import PreferenceSums
from flywheel.stats.ratio import ArmSums, compare
from flywheel.store import Store
from flywheel.store.evaluation.tally import Tally
from tests import defaults
from tests.store.make import DAY, HOUR, NOW, batch, event, query, rows

OURS = defaults.comparison("x", "v0", "v1")
TEAMS = ("champion", "challenger", "both")
SUMMED = ("users", "pages", "pages_squared", "value", "value_squared", "value_pages")


def page(name: str, person: str | None, arm: str | None, ts_ms: int = NOW, **fields: object) -> Query:
    """A page of experiment x."""
    values = {"client_key": person, "experiment_id": "x", "arm": arm, "latency_ms": 10.0, "model_version": "v0"}
    return query(name, ts_ms, **(values | fields))


def stream(seed: int, arms: tuple[str, ...], pages: int = 600) -> tuple[list[Query], list[Event]]:
    """A week of pages with clicks, dwells and thumbs, by 80 people who each have one arm."""
    rng = np.random.default_rng(seed)
    shown, done = [], []
    for number in range(pages):
        person = int(rng.integers(80))
        ts = NOW + int(rng.integers(7 * DAY))
        arm = arms[person % len(arms)]
        teams = tuple(rng.permutation(TEAMS)) if arm == "interleaved" else None
        hits = () if rng.random() < 0.05 else ("d1", "d2", "d3")
        shown.append(page(f"q{number}", f"p{person}", arm, ts, teams=teams if hits else None, hit_ids=hits))
        for rank in np.flatnonzero(rng.random(len(hits)) < 0.3):
            fields = {"query_id": f"q{number}", "doc_id": hits[rank], "rank": int(rank) + 1}
            done.append(event(f"c{number}-{rank}", ts + 1_000, **fields))
            dwell = int(rng.choice([2_000, 60_000]))
            done.append(event(f"d{number}-{rank}", ts + 90_000, Kind.DWELL, dwell_ms=dwell, **fields))
            if rng.random() < 0.1:
                done.append(event(f"t{number}-{rank}", ts + 95_000, Kind.THUMBS_DOWN, **fields))
    return shown, done


def counted(shown: list[Query], done: list[Event]) -> dict[str, dict[str, tuple[ArmSums, ArmSums]]]:
    """The second source: the same definitions, page by page, over everything at once."""
    by_page = defaultdict(list)
    for happened in done:
        by_page[happened.query_id].append(happened)
    totals: dict[str, dict[str, list[float]]] = {
        arm: defaultdict(lambda: [0.0] * 6) for arm in ("champion", "challenger")
    }
    for shown_page in shown:
        told = by_page[shown_page.query_id]
        down = {e.doc_id for e in told if e.kind is Kind.THUMBS_DOWN}
        long = {e.doc_id for e in told if (e.dwell_ms or 0) >= 30_000}
        clicked = any(e.kind is Kind.CLICK for e in told)
        row = totals[str(shown_page.arm)][str(shown_page.client_key)]
        for place, value in enumerate((1, clicked, bool(long - down), not shown_page.hit_ids, not clicked, bool(down))):
            row[place] += value
    found = {}
    for place, name in ((2, "satisfied_ctr"), (1, "ctr"), (3, "empty_rate"), (4, "abandonment"), (5, "thumbs_down")):
        arms = [np.array(list(totals[arm].values())) for arm in ("champion", "challenger")]
        found[name] = tuple(ArmSums.of(arm[:, place], arm[:, 0]) for arm in arms)
    return {"metrics": found}


def same(ours: ArmSums, theirs: ArmSums) -> None:
    assert [getattr(ours, name) for name in SUMMED] == pytest.approx([getattr(theirs, name) for name in SUMMED])


def test_sums_are_those_of_counting_every_page(store: Store) -> None:
    """Folded in day by day, in small slices, every metric's sums equal those of one pass over all pages in Python."""
    shown, done = stream(0, ("champion", "challenger"))
    store.feedback.ingest(batch(queries=shown, events=done), "c", NOW + 8 * DAY)
    tally = Tally(store.database, slice_pages=50)
    assert sum(tally.advance(OURS, NOW + day * DAY) for day in range(9)) == 600
    assert tally.advance(OURS, NOW + 8 * DAY) == 0
    found = tally.sums("x")
    for name, (champion, challenger) in counted(shown, done)["metrics"].items():
        same(found.metrics[name][0], champion)
        same(found.metrics[name][1], challenger)
    assert found.metrics["latency_ms"][0].ratio == pytest.approx(10.0)
    assert {type(value) for arms in found.metrics.values() for arm in arms for value in arm.as_dict().values()} == {
        int,
        float,
    }
    assert (found.users, found.crossed, found.pages) == ({"champion": 40, "challenger": 40}, 0, 600)
    daily = rows(store, "SELECT sum(pages), sum(total) FROM experiment_daily WHERE metric = 'ctr'")
    assert daily == [(600, sum(arm.value for arm in found.metrics["ctr"]))]
    assert 70 < sum(arm.users for arm in found.steady["ctr"]) < 80, "the busiest are left out"


def test_preference_is_by_person_and_by_satisfied_clicks(store: Store) -> None:
    """Interleaved pages credit the team that drafted what was clicked, as the plain count by page has it."""
    shown, done = stream(1, ("interleaved",))
    store.feedback.ingest(batch(queries=shown, events=done), "c", NOW + 8 * DAY)
    for day in range(9):
        store.tally.advance(OURS, NOW + day * DAY)
    by_page = defaultdict(list)
    for happened in done:
        by_page[happened.query_id].append(happened)
    earned = {"any": defaultdict(lambda: np.zeros(2)), "satisfied": defaultdict(lambda: np.zeros(2))}
    for shown_page in shown:
        told = by_page[shown_page.query_id]
        down = {e.rank for e in told if e.kind is Kind.THUMBS_DOWN}
        ranks = {
            "any": {e.rank for e in told if e.kind is Kind.CLICK},
            "satisfied": {e.rank for e in told if (e.dwell_ms or 0) >= 30_000} - down,
        }
        for name, clicked in ranks.items():
            earned[name][shown_page.client_key] += credit(shown_page.teams or (), {r for r in clicked if r})
    found = store.tally.sums("x")
    for name, ours in (("any", found.preference_clicks), ("satisfied", found.preference)):
        votes = np.array(list(earned[name].values()))
        theirs = PreferenceSums.of(votes[:, 0], votes[:, 1])
        assert list(ours.as_dict().values()) == pytest.approx(list(theirs.as_dict().values()))
    assert found.metrics == {}


def test_a_window_counts_once_it_is_closed_and_a_late_page_still_does(store: Store) -> None:
    """Pages after the watermark wait; one that comes after its window was closed is folded in at the next look."""
    store.feedback.ingest(
        batch(queries=[page("q1", "a", "champion"), page("q2", "b", "champion", NOW + DAY)]), "c", NOW
    )
    assert store.tally.advance(OURS, NOW + HOUR) == 1
    late = page("q3", "c", "challenger", NOW - HOUR)
    store.feedback.ingest(batch(queries=[late], start=5), "c", NOW + DAY)
    assert store.tally.advance(OURS, NOW + HOUR) == 1
    assert store.tally.advance(OURS, NOW) == 0, "a watermark that is behind changes nothing"
    assert store.tally.advance(OURS, NOW + 2 * DAY) == 1
    assert store.tally.sums("x").users == {"champion": 2, "challenger": 1}


def test_who_meets_both_arms_counts_in_none(store: Store) -> None:
    """In one window or in two, a person who met both is crossed: still among the users, in no sum."""
    first = [page("q1", "a", "champion"), page("q2", "a", "challenger", NOW + 1), page("q3", "b", "champion")]
    later = [page("q4", "b", "challenger", NOW + DAY), page("q5", "c", "challenger", NOW + DAY)]
    store.feedback.ingest(batch(queries=[*first, *later]), "c", NOW)
    for day in (1, 2):
        store.tally.advance(OURS, NOW + day * DAY)
    found = store.tally.sums("x")
    assert (found.users, found.crossed) == ({"champion": 2, "challenger": 1}, 2)
    assert (found.metrics["ctr"][0].users, found.metrics["ctr"][1].users) == (0, 1)


def test_nobody_counts_more_than_their_cap(store: Store) -> None:
    """Pages beyond the cap are left out, over all windows together; a bot is steady in neither."""
    shown = [page(f"b{number}", "bot", "champion", NOW + number * HOUR) for number in range(40)]
    shown += [page(f"p{number}", f"p{number}", "champion") for number in range(30)]
    clicks = [event(f"c{number}", NOW, query_id=f"b{number}") for number in range(40)]
    store.feedback.ingest(batch(queries=shown, events=clicks), "c", NOW)
    for day in (1, 2):
        store.tally.advance(replace(OURS, cap=25), NOW + day * DAY)
    found = store.tally.sums("x")
    assert (found.metrics["ctr"][0].pages, found.metrics["ctr"][0].value, found.over_cap) == (55, 25, 15)
    assert found.steady["ctr"][0].pages == 30


def test_tags_of_a_product_that_serves_itself(store: Store) -> None:
    """Arm names, else model versions, tell the arms; assignment counts above what was served; foreign pages do not."""
    shown = [
        page("q1", "a", "Control", experiment_id=None, model_version=None),
        page("q2", "b", "treatment", experiment_id=None, model_version="v0"),
        page("q3", "c", None, experiment_id=None, model_version="v1"),
        page("q4", "d", "blue", experiment_id="theirs", model_version="v0"),
        page("q5", "e", "treatment", experiment_id="another", model_version="v7"),
        page("q6", None, "champion", experiment_id=None),
        page("q7", "f", None, experiment_id=None, model_version="v9"),
        page("q8", "g", "champion", ts_ms=NOW - DAY, experiment_id=None),
    ]
    store.feedback.ingest(batch(queries=shown), "c", NOW)
    tagged = replace(OURS, tagged=True, from_ms=NOW - HOUR)
    assert store.tally.advance(tagged, NOW + DAY) == 4
    found = store.tally.sums("x")
    assert (found.users, found.anonymous) == ({"champion": 2, "challenger": 2}, 1)
    assert store.tally.advance(replace(OURS, experiment_id="own"), NOW + DAY) == 0


def test_clocks_that_disagree(store: Store) -> None:
    """A click dated days before its page still counts; a page dated far ahead waits; a broken latency is no latency."""
    shown = [page("q1", "a", "champion", latency_ms=float("nan")), page("q2", "b", "champion", NOW + 4_000 * DAY)]
    store.feedback.ingest(batch(queries=shown, events=[event("c1", NOW - 9 * DAY)]), "c", NOW)
    store.tally.advance(OURS, NOW + HOUR)
    found = store.tally.sums("x")
    assert (found.metrics["ctr"][0].pages, found.metrics["ctr"][0].value) == (1, 1)
    assert found.metrics["latency_ms"][0].pages == 0


def test_a_product_that_measures_no_latency_is_counted(store: Store) -> None:
    """Pages without a latency count for everything else, also where a person has no other pages."""
    shown = [page("q1", "a", "champion", latency_ms=None), page("q2", "b", "challenger", latency_ms=None)]
    store.feedback.ingest(batch(queries=shown, events=[event("c1", NOW)]), "c", NOW)
    store.tally.advance(OURS, NOW + HOUR)
    found = store.tally.sums("x")
    assert [arm.pages for arm in found.metrics["ctr"]] == [1, 1]
    assert [arm.pages for arm in found.metrics["latency_ms"]] == [0, 0]


def test_what_people_did_before_is_taken_out(store: Store) -> None:
    """The covariate is each person's surplus over everybody's rate; with it, the same effect has a smaller error."""
    rng = np.random.default_rng(3)
    tastes = rng.beta(0.5, 0.5, 300)
    shown, done, now, before = [], [], np.zeros((300, 2)), np.zeros((300, 2))
    for number in range(6_000):
        person, early = number % 300, number < 3_000
        ts = NOW - 2 * DAY + number if early else NOW + number
        arm = None if early else ("champion", "challenger")[person % 2]
        name = f"q{number}"
        shown.append(page(name, f"p{person}", arm, ts, experiment_id=None if early else "x"))
        clicked = rng.random() < tastes[person]
        if clicked:
            done.append(event(f"c{number}", ts + 1, query_id=name))
        if not early or person % 3:
            (before if early else now)[person] += (clicked, 1)
        elif shown.pop() and clicked:
            done.pop()  # a third of the people were not there before
    store.feedback.ingest(batch(queries=shown, events=done), "c", NOW + DAY)
    for _ in range(2):
        store.tally.begin(OURS, NOW)
    store.tally.advance(OURS, NOW + DAY)
    surplus = before[:, 0] - before[:, 0].sum() / before[:, 1].sum() * before[:, 1]
    found = store.tally.sums("x").metrics["ctr"]
    for place, ours in enumerate(found):
        theirs = ArmSums.of(now[place::2, 0], now[place::2, 1], surplus[place::2])
        assert list(ours.as_dict().values()) == pytest.approx(list(theirs.as_dict().values()), abs=1e-9)
    plain = compare(*(arm.without_before() for arm in found))
    taken_out = compare(*found)
    assert isinstance(plain, Estimate)
    assert isinstance(taken_out, Estimate)
    assert taken_out.standard_error < 0.8 * plain.standard_error


def test_a_restart_goes_on_where_it_was(path: Path) -> None:
    """Closed and opened between windows, the sums are those of one go."""
    shown, done = stream(2, ("champion", "challenger"), 200)
    with Store.open(path) as store:
        store.feedback.ingest(batch(queries=shown, events=done), "c", NOW + 8 * DAY)
        store.tally.advance(OURS, NOW + 3 * DAY)
    with Store.open(path) as store:
        store.tally.advance(OURS, NOW + 8 * DAY)
        assert store.tally.until_ms("x") == NOW + 8 * DAY
        same(store.tally.sums("x").metrics["ctr"][1], counted(shown, done)["metrics"]["ctr"][1])
        store.tally.forget_people("x")
        assert store.tally.sums("x").users == {}


def test_erasing_somebody_takes_them_out_of_the_sums(store: Store) -> None:
    """After `erase-user` no row by person holds them."""
    store.feedback.ingest(batch(queries=[page("q1", "a", "champion"), page("q2", "b", "champion")]), "c", NOW)
    store.tally.advance(OURS, NOW + HOUR)
    store.erasure.erase_user(["a"])
    assert store.tally.sums("x").users == {"champion": 1}
    assert rows(store, "SELECT DISTINCT person FROM experiment_people_days") == [("b",)]
