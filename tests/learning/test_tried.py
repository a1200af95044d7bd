"""A run like one that was made is known by its champion, tier, settings and judged sets, whatever its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel.gates.triggers import check
from flywheel.learning.measure import Meter
from flywheel.learning.tried import tried, way
from flywheel.settings.home import Home
from flywheel.settings.load import Config, Retrain
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.evaluation.decisions import Decision as Row
from flywheel.store.store import Store
from flywheel.store.training.models import Model
from tests.learning.test_glue import a_cycle, learner, nothing
from tests.store.make import DAY, NOW, batch, event, query

CONFIG = Config()
TIER = CONFIG.trainer.tier


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose champion is base, after one page with a click."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as opened:
        for version in ("base", "v1"):
            opened.models.add(Model(version, TIER, f"/{version}", "i", 1))
        opened.decisions.decide(Row("initial", "initial", "base", "me", 1, alias=CHAMPION))
        opened.feedback.ingest(batch(queries=[query("q1")], events=[event("e1")]), "c", NOW)
        yield opened


def test_the_same_run_is_known_until_something_differs(store: Store, tmp_path: Path) -> None:
    """After a refusal the way is known with its outcome; another tier, setting, champion or golden set is untried."""
    assert tried(store, CONFIG, TIER, NOW) is None
    a_cycle(store, Home(tmp_path / "h"), learner(nothing)).turn("manual", None)
    known = tried(store, CONFIG, TIER, NOW)
    assert known is not None
    assert (known.run_id, known.new_pairs) == ("run-0001", 0)
    assert known.outcome.startswith("ended as inconclusive (")
    assert tried(store, CONFIG, "adapter", NOW) is None
    slower = CONFIG.model_copy(update={"trainer": CONFIG.trainer.model_copy(update={"learning_rate": 1e-5})})
    assert tried(store, slower, TIER, NOW) is None
    patient = CONFIG.model_copy(update={"promotion": CONFIG.promotion.model_copy(update={"look_seconds": 9.0})})
    assert way(store, patient, TIER, "base") == way(store, CONFIG, TIER, "base")
    store.decisions.decide(Row("two", "promote", "v1", "me", 2, alias=CHAMPION))
    assert tried(store, CONFIG, TIER, NOW) is None


def test_new_clicks_are_new_evidence(store: Store, tmp_path: Path) -> None:
    """Pairs that came after the run are counted, up to the moment that is asked about."""
    a_cycle(store, Home(tmp_path / "h"), learner(nothing)).turn("manual", None)
    asked = [query(f"n{number}", NOW + DAY, text=f"other {number}") for number in range(3)]
    clicked = [event(f"m{number}", NOW + DAY, query_id=f"n{number}") for number in range(3)]
    store.feedback.ingest(batch(queries=asked, events=clicked, start=9), "c", NOW + DAY)
    known = tried(store, CONFIG, TIER, NOW + 2 * DAY)
    assert known is not None
    assert known.new_pairs == 3


def test_a_repeated_turn_is_held_back_and_warned_of(store: Store, tmp_path: Path) -> None:
    """The daemon's measurements know the run; whoever asks for the same turn gets it with a warning."""
    cycle = a_cycle(store, Home(tmp_path / "h"), learner(nothing))
    assert "warning" not in cycle.turn("manual", None)
    meter = Meter(store, CONFIG, judged_sets=list, ranker=lambda _: list, paused=lambda: False)
    fallen = replace(meter.measure(NOW + DAY), satisfied_ctr=0.1, satisfied_ctr_before=0.3)
    answer = check(fallen, Retrain(), now_ms=NOW + DAY)
    assert "satisfied_ctr_drop asks, but not repeated: same evidence as run-0001" in answer.trigger
    assert "not repeated: same evidence as run-0001" in cycle.turn("manual", None)["warning"]
    assert "warning" not in cycle.turn("manual", "adapter")
