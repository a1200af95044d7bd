"""Model versions."""

from __future__ import annotations

import pytest

from flywheel.store import Store, StoreError
from flywheel.store.training.models import Model
from tests.store.make import NOW


def test_a_version_is_registered_once_and_comes_back_as_it_was(store: Store) -> None:
    """A second registration changes nothing; its state can be set."""
    model = Model("v1", "adapter", "models/v1", "space", NOW, parent="v0", run_id="r", metrics={"ndcg@10": 0.7})
    assert store.models.add(model)
    assert not store.models.add(Model("v1", "full", "elsewhere", "other", NOW))
    assert store.models.get("v1") == model
    store.models.set_state("v1", "retired")
    (found,) = store.models.all()
    assert (found.state, found.metrics) == ("retired", {"ndcg@10": 0.7})
    assert store.models.champion() is None


def test_an_unknown_version_is_named(store: Store) -> None:
    """The error says where to look."""
    with pytest.raises(StoreError, match="no model version v9"):
        store.models.set_state("v9", "retired")
