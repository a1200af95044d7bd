"""What is to be served, by the database: the champion, and the version that the live experiment tries beside it.

It decides nothing about experiments; `flywheel.experiments.director` does.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Protocol

from flywheel.experiments.frozen import Frozen
from flywheel.experiments.shadow import Side
from flywheel.experiments.stages import CONFIRMATION
from flywheel.retrieval.indexer import Indexer
from flywheel.serving.served import Encoder, Live, LiveExperiment, Method, Ranker
from flywheel.store.evaluation.decisions import CHAMPION
from flywheel.store.evaluation.experiments import Experiment as Row
from flywheel.store.store import Store

log = logging.getLogger(__name__)

METHODS: dict[str, Method] = {"interleaving": "interleaving", "split": "split", CONFIRMATION: "holdback"}


class Indexers(Protocol):
    """One indexer for each vector space."""

    def of(self, version: str) -> Indexer: ...


class Lineup:
    """Builds what the search engine serves.

    Args:
        encoder: loads a version's encoder.
        indexers: indexes, and what keeps a challenger's own index equal to the documents.
        frozen: the share of the people that keeps one version for ever; None: nobody does.
    """

    def __init__(
        self, store: Store, encoder: Callable[[str], Encoder], indexers: Indexers, frozen: Frozen | None = None
    ) -> None:
        self._store, self._encoder, self._indexers, self._frozen = store, encoder, indexers, frozen
        self._caught_up = False

    def build(self) -> Live:
        """What to serve now: the champion serves alone where the other version cannot be loaded.

        Raises:
            OSError, ValueError: the champion itself cannot be loaded.
        """
        champion = self._ranker(self._store.models.aliases()[CHAMPION])
        alone = Live(champion.version, champion.encoder, champion.index)
        alone = dataclasses.replace(alone, frozen=self._beside_frozen(alone))
        row = self.tried()
        if row is None:
            return alone
        try:
            other = self._ranker(_other(row))
        except (OSError, ValueError):
            log.exception("%s cannot be loaded; %s serves alone", _other(row), champion.version)
            return alone
        experiment = None
        if row.stage in METHODS:
            experiment = LiveExperiment(row.experiment_id, METHODS[row.stage], row.share or 0.0)
        return dataclasses.replace(alone, challenger=other, experiment=experiment)

    def _beside_frozen(self, alone: Live) -> Live | None:
        """The champion beside the frozen version, served as a holdback: the frozen one is the arm called champion."""
        wanted = self._frozen_now()
        if wanted is None:
            return None
        try:
            kept = self._ranker(wanted.version)
        except (OSError, ValueError):
            log.exception("%s cannot be loaded; nobody keeps it", wanted.version)
            return None
        holdback = LiveExperiment(wanted.experiment_id, "holdback", wanted.share)
        return dataclasses.replace(alone, challenger=kept, experiment=holdback)

    def _frozen_now(self) -> Frozen | None:
        """The frozen version, once an index of its own is filled; None before that, or where nobody keeps one."""
        if self._frozen is None:
            return None
        kept = self._kept()
        shared = kept is self._indexers.of(self._store.models.aliases()[CHAMPION])
        return self._frozen if kept is None or shared or self._caught_up else None

    def _kept(self) -> Indexer | None:
        """The frozen version's indexer; None where there is no frozen version, or it cannot be loaded."""
        try:
            return None if self._frozen is None else self._indexers.of(self._frozen.version)
        except (OSError, ValueError):
            return None

    def tried(self) -> Row | None:
        """The live experiment, if it is about the present champion."""
        row = self._store.experiments.live()
        if row is None:
            return None
        champion = self._store.models.aliases()[CHAMPION]
        return row if champion == (row.version if row.stage == CONFIRMATION else row.champion) else None

    def make_ready(self, version: str) -> None:
        """Load a version and fill its index, before it is served."""
        self._ranker(version)
        self._indexers.of(version).catch_up()

    def follow(self) -> bool:
        """Keep the indexes of the frozen version and of the one that is tried equal to the documents.

        Returns whether there is more to do. An index shared with the champion is left to those who keep the champion's.
        """
        champion = self._indexers.of(self._store.models.aliases()[CHAMPION])
        row, more = self.tried(), False
        kept = self._kept()
        if kept is not None:
            more = kept is not champion and kept.step()
            self._caught_up |= not more
        if row is None:
            return more
        indexer = self._indexers.of(_other(row))
        return (indexer is not champion and indexer.step()) or more

    def side(self, version: str) -> Side:
        """The version as the shadow ranks with it."""
        return Side(self._encoder(version), self._indexers.of(version).index)

    def _ranker(self, version: str) -> Ranker:
        return Ranker(version, self._encoder(version), self._indexers.of(version).index)

    def stale(self, live: Live | None) -> bool:
        """Whether `live` differs from what should be served: in champion, challenger, experiment, share or frozen."""
        if live is None:
            return True
        kept = live.frozen.experiment if live.frozen else None
        frozen = self._frozen_now()
        if (kept and (kept.experiment_id, kept.share)) != (frozen and (frozen.experiment_id, frozen.share)):
            return True
        row = self.tried()
        due = [self._store.models.aliases()[CHAMPION], row and _other(row), None, None]
        if row is not None and row.stage in METHODS:
            due[2:] = [row.experiment_id, str(row.share or 0.0)]
        served = [live.version, live.challenger and live.challenger.version, None, None]
        if live.experiment is not None:
            served[2:] = [live.experiment.experiment_id, str(live.experiment.share)]
        return due != served


def _other(row: Row) -> str:
    """The version beside the champion; in a confirmation this is the champion before it."""
    return row.champion if row.stage == CONFIRMATION else row.version
