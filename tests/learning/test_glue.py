"""The seams of the wheel: decisions that somebody overtook, disks that were full, and stops in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from flywheel.experiments import ledger as verdicts
from flywheel.gates.decision import GateDecision, Verdict
from flywheel.learning.cycle import Cycle, Parts
from flywheel.learning.snapshot import NothingToLearn
from flywheel.retrieval.index import Index
from flywheel.retrieval.indexer import Indexer, Stopped
from flywheel.settings.home import Home
from flywheel.settings.load import Config
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.evaluation.decisions import Decision as Row
from flywheel.store.schema.errors import StoreFull
from flywheel.store.state import PAUSED
from flywheel.store.store import Store
from flywheel.store.training.models import Model
from flywheel.store.training.runs import TrainingRun

GAIN = GateDecision(Verdict.PROMOTE, ("it is better",), {"alpha": 0.05}, 0.05)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store whose champion is base, with the versions v1 and v2 beside it."""
    with Store.open(tmp_path / "flywheel.duckdb", memory_gb=0.5, threads=1) as opened:
        for version in ("base", "v1", "v2"):
            opened.models.add(Model(version, "query_tower", f"/{version}", "i", 1))
        opened.decisions.decide(Row("initial", "initial", "base", "me", 1, alias=CHAMPION))
        yield opened


def a_run(trigger: str = "manual") -> TrainingRun:
    return TrainingRun("run-0001", trigger, "query_tower", "gate", 5, parent="base", version="v1", until_ms=5)


def a_cycle(store: Store, home: Home, learning: Any, stop: threading.Event | None = None) -> Cycle:
    home.init()
    registry = SimpleNamespace(next_version=lambda: "v9")
    parts = SimpleNamespace(home=home, config=Config(), store=store, registry=registry, learning=learning, owner="me")
    parts.now_ms, parts.stop = lambda: 9, stop or threading.Event()
    return Cycle(cast(Parts, parts))


def learner(gather: Callable[[TrainingRun], Any]) -> Any:
    return SimpleNamespace(gather=gather)


def nothing(_: TrainingRun) -> Any:
    raise NothingToLearn(("nothing",), {})


def test_a_gain_over_the_champion_is_promoted_once(store: Store) -> None:
    """The switch and the decision stand together; asking again answers the same."""
    first = verdicts.record(store, a_run(), GAIN, "v1", 6)
    again = verdicts.record(store, a_run(), GAIN, "v1", 7)
    assert (first.verdict, again.verdict) == (Verdict.PROMOTE, Verdict.PROMOTE)
    assert store.models.aliases() == {CHAMPION: "v1"}


def test_a_choice_by_hand_is_not_overwritten_by_a_run_that_did_not_know_of_it(store: Store) -> None:
    """What was judged against base does not replace v2, which somebody promoted meanwhile; the reason names both."""
    store.decisions.decide(Row("manual-1", "manual", "v2", "ops", 6, previous="base", alias=CHAMPION))
    stands = verdicts.record(store, a_run(), GAIN, "v1", 7)
    assert stands.verdict is Verdict.INCONCLUSIVE
    assert "base" in stands.reasons[0]
    assert "v2" in stands.reasons[0]
    assert store.models.aliases() == {CHAMPION: "v2"}


def test_a_paused_wheel_promotes_nothing_by_itself(store: Store, tmp_path: Path) -> None:
    """A scheduled run that ends in a pause leaves its candidate for a person, and says so; one by hand promotes."""
    store.state.set(PAUSED, True, 1)
    cycle = a_cycle(store, Home(tmp_path), None)
    held = cycle._decide(a_run("new_pairs"), GAIN)
    assert "flywheel promote v1" in held.reasons[-1]
    assert store.models.aliases() == {CHAMPION: "base"}
    found = store.models.get("v1")
    assert found is not None
    assert found.state == "candidate"


def test_whoever_watches_is_shown_a_run_once_it_has_ended(store: Store, tmp_path: Path) -> None:
    """Tracking sees the run as the database has it: ended, with its reason, and never one that a stop left open."""
    stop, seen = threading.Event(), list[TrainingRun]()

    def stopped(_: TrainingRun) -> Any:
        raise Stopped("stopping")

    open_run = a_cycle(store, Home(tmp_path), learner(stopped), stop)
    open_run.watchers.append(seen.append)
    with pytest.raises(Stopped):
        open_run.turn("manual", None)
    assert seen == []
    cycle = a_cycle(store, Home(tmp_path), learner(nothing))
    cycle.watchers.append(seen.append)
    cycle.resume()
    assert [(run.run_id, run.state, run.error) for run in seen] == [("run-0001", "refused", "nothing")]


def test_a_run_whose_end_could_not_be_written_blocks_no_later_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while a run fails, so that its lock stays; with room again the same process goes on."""
    cycle = a_cycle(store, Home(tmp_path), learner(nothing))
    with monkeypatch.context() as full:

        def refuse(*_: Any, **__: Any) -> None:
            raise StoreFull("no room on the disk")

        full.setattr(store.runs, "finish", refuse)
        with pytest.raises(StoreFull):
            cycle.turn("manual", None)
    assert store.runs.active() is not None
    cycle.turn("manual", None)
    assert store.runs.active() is None
    assert [run.state for run in store.runs.all()] == ["refused", "refused"]


def test_an_error_while_stopping_leaves_the_run_for_the_next_process(store: Store, tmp_path: Path) -> None:
    """A store that closes under a run is no failure of the run."""
    stop = threading.Event()

    def closing(_: TrainingRun) -> Any:
        stop.set()
        raise OSError("closed")

    with pytest.raises(OSError, match="closed"):
        a_cycle(store, Home(tmp_path), learner(closing), stop).turn("manual", None)
    left = store.runs.active()
    assert left is not None
    assert left.state == "started"


def test_snapshots_of_old_runs_go(store: Store, tmp_path: Path) -> None:
    """The last three runs' snapshots stay, drafts of killed processes and older ones do not."""
    home = Home(tmp_path)
    cycle = a_cycle(store, home, learner(nothing))
    for _ in range(3):
        cycle.turn("manual", None)
    for name in ("run-0001", "run-0002", "run-0002.77.tmp", "run-0003"):
        (home.snapshots / name).mkdir()
    cycle.turn("manual", None)
    assert sorted(path.name for path in home.snapshots.iterdir()) == ["run-0002", "run-0003"]


class Text:
    """One document as it is now."""

    sequence, doc_id, content, content_hash, deleted = 1, "a", "text", "h", False


class Documents:
    """A single change, for ever."""

    def changed_since(self, sequence: int, limit: int) -> Sequence[Text]:
        return [Text()][:limit] if sequence < 1 else []

    def last_change(self) -> int:
        return 1

    def count(self) -> int:
        return 1


def encode(texts: Sequence[str], *, progress: Callable[[int, int], None]) -> Any:
    """Vectors, as an encoder makes them: it tells after every batch how far it is."""
    progress(len(texts), len(texts))
    return np.ones((len(texts), 2), np.float32)


def test_indexing_ends_with_the_process_and_goes_on_with_the_next(tmp_path: Path) -> None:
    """A stop is noticed between two batches of texts; nothing is taken for indexed that is not."""
    stop = threading.Event()
    stop.set()
    encoder: Any = SimpleNamespace(encode_documents=encode)
    indexer = Indexer(encoder, Index("i", 2), Documents(), tmp_path, stopping=stop.is_set)
    with pytest.raises(Stopped):
        indexer.catch_up()
    assert indexer.pending == 1
    stop.clear()
    indexer.catch_up()
    assert (len(indexer.index), indexer.pending) == (1, 0)
