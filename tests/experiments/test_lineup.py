"""Who serves whom: what the database says of the champion and the live experiment is what the engine is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flywheel.experiments.frozen import Frozen
from flywheel.experiments.lineup import Lineup
from flywheel.store import Store
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.training.models import Model


class Loaded:
    """Encoders and indexers by version; `gone` cannot be loaded, `indexers` says whose index is whose."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.stepped: list[str] = []
        self.indexers = {"v0": "space", "v1": "space", "v2": "own"}
        self.made: dict[str, Any] = {}

    def encoder(self, version: str) -> Any:
        if version in self.gone:
            raise FileNotFoundError(version)
        return f"encoder of {version}"

    def of(self, version: str) -> Any:
        if version in self.gone:
            raise FileNotFoundError(version)
        space = self.indexers[version]
        if space not in self.made:
            step = lambda: bool(self.stepped.append(space))  # noqa: E731
            self.made[space] = SimpleNamespace(index=space, step=step)
        return self.made[space]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as opened:
        for version in ("v0", "v1", "v2"):
            opened.models.add(Model(version, "query_tower", f"/{version}", "space", 1))
        opened.decisions.decide(Decision("initial", "initial", "v0", "test", 1, alias=CHAMPION))
        yield opened


def goes_live(store: Store, stage: str, version: str = "v1", champion: str = "v0") -> None:
    store.experiments.add(Experiment(f"run-{stage}", version, champion, stage, 1))
    store.experiments.begin(f"run-{stage}", 2, share=0.2)


def lineup(store: Store, loaded: Loaded, frozen: Frozen | None = None) -> Lineup:
    return Lineup(store, loaded.encoder, loaded, frozen)


@pytest.mark.parametrize(
    ("stage", "method"), [("interleaving", "interleaving"), ("split", "split"), ("observe", None), ("shadow", None)]
)
def test_a_challenger_stands_beside_the_champion(store: Store, stage: str, method: str | None) -> None:
    """It is loaded in every stage, and shown to people only in those that we serve; then nothing is stale."""
    serving = lineup(store, Loaded())
    before = serving.build()
    assert (before.challenger, serving.stale(before)) == (None, False)
    goes_live(store, stage)
    assert serving.stale(before)
    live = serving.build()
    assert (live.version, live.challenger and live.challenger.version) == ("v0", "v1")
    assert (live.experiment and (live.experiment.method, live.experiment.share)) == (method and (method, 0.2))
    assert not serving.stale(live)


def test_a_split_that_grows_is_served_anew(store: Store) -> None:
    """The share is part of what is served."""
    serving = lineup(store, Loaded())
    goes_live(store, "split")
    live = serving.build()
    store.experiments.update("run-split", share=0.5)
    assert serving.stale(live)
    assert not serving.stale(serving.build())


def test_in_a_watch_the_old_champion_is_the_arm_called_champion(store: Store) -> None:
    """The two have changed places, and each arm is ranked by whom its name means."""
    store.decisions.decide(Decision("p", "promote", "v1", "flywheel", 2, previous="v0", alias=CHAMPION))
    goes_live(store, "confirmation")
    live = lineup(store, Loaded()).build()
    assert live.version == "v1"
    ranked = {arm: live.ranker_of(arm).version for arm in ("champion", "challenger", None)}
    assert ranked == {"champion": "v0", "challenger": "v1", None: "v1"}


def test_a_switch_by_hand_ends_what_it_overtakes_at_once(store: Store) -> None:
    """Before the next look at the experiment, the new champion serves alone."""
    serving = lineup(store, Loaded())
    goes_live(store, "split")
    store.decisions.decide(Decision("m", "manual", "v2", "ops", 3, previous="v0", alias=CHAMPION))
    live = serving.build()
    assert (live.version, live.challenger, live.experiment) == ("v2", None, None)


def test_a_challenger_that_cannot_be_loaded_takes_nobody_down(store: Store) -> None:
    """The champion serves alone, and that is not taken for what was wanted."""
    loaded = Loaded()
    loaded.gone.add("v1")
    goes_live(store, "split")
    serving = lineup(store, loaded)
    live = serving.build()
    assert (live.version, live.challenger, serving.stale(live)) == ("v0", None, True)
    with pytest.raises(FileNotFoundError):
        serving.make_ready("v1")


def test_only_an_index_of_its_own_is_followed(store: Store) -> None:
    """What the two share is the champion's to keep."""
    loaded = Loaded()
    serving = lineup(store, loaded)
    assert serving.follow() is False
    goes_live(store, "split")
    serving.follow()
    assert loaded.stepped == []
    store.experiments.end("run-split", "decided", 3, verdict="reject", reasons=["worse"])
    goes_live(store, "interleaving", "v2")
    serving.follow()
    assert loaded.stepped == ["own"]
