"""Switching by hand: nothing becomes the champion that cannot serve, and each switch stands on what it saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flywheel.daemon.local import DaemonHooks, Installation, LocalOperations
from flywheel.operations import OperationError
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.store import Store
from flywheel.store.training.models import Model


def operations(store: Store, of: Callable[[str], Any]) -> LocalOperations:
    """Operations whose vector spaces come from `of`; v1 has the index i, as base, and v2 one of its own."""
    for version, index_id in (("base", "i"), ("v1", "i"), ("v2", "j")):
        store.models.add(Model(version, "full", f"/{version}", index_id, 1))
    store.decisions.decide(Decision("initial", "initial", "base", "me", 1, alias=CHAMPION))
    parts = SimpleNamespace(store=store, now_ms=lambda: 5, indexers=SimpleNamespace(of=of), registry=None)
    parts.registry = SimpleNamespace(path=lambda version: Path("/models") / version)
    return LocalOperations(cast(Installation, parts), DaemonHooks(turn=lambda *_: {}))


def test_a_version_that_cannot_be_loaded_does_not_become_champion(tmp_path: Path) -> None:
    """The refusal names the folder, and the champion stays."""

    def gone(_: str) -> Any:
        raise FileNotFoundError("no modules.json")

    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:
        with pytest.raises(OperationError, match="/models/v1"):
            operations(store, gone).promote("v1", "try", "me")
        assert store.models.aliases() == {CHAMPION: "base"}


def test_another_index_is_filled_before_the_switch_and_the_same_one_is_not_waited_for(tmp_path: Path) -> None:
    """An index of its own is complete when its version becomes champion; and back again with a rollback."""
    filled: list[str] = []
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:

        def of(version: str) -> Any:
            index_id = "j" if version == "v2" else "i"
            return SimpleNamespace(
                index=SimpleNamespace(index_id=index_id),
                catch_up=lambda: filled.append(f"{version} over {store.models.aliases()[CHAMPION]}"),
            )

        ours = operations(store, of)
        ours.promote("v1", "try", "me")
        assert filled == []
        ours.promote("v2", "try", "me")
        ours.rollback("no", "me")
        assert filled == ["v2 over v1", "v1 over v2"]
        assert store.models.aliases() == {CHAMPION: "v1"}


def test_a_switch_over_a_champion_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    """While v2 is made ready somebody else promotes v1: that choice is not overwritten unseen."""
    with Store.open(tmp_path / "a.duckdb", memory_gb=0.5, threads=1) as store:

        def of(_: str) -> Any:
            store.decisions.decide(Decision("other", "manual", "v1", "ops", 3, previous="base", alias=CHAMPION))
            return SimpleNamespace(index=SimpleNamespace(index_id="i"))

        with pytest.raises(OperationError, match="v1 became the champion"):
            operations(store, of).promote("v2", "try", "me")
        assert store.models.aliases() == {CHAMPION: "v1"}
