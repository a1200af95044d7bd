"""Ranks documents for a query with what is live, and records on each page how it was made. No HTTP, no broker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.serving.assignment import Arm, assign, seed
from flywheel.serving.ranking import Filters, Retriever
from flywheel.serving.served import Hit, Live, Page, Placement, Ranker, Titles
from flywheel.serving.vectors import QueryVectors
from flywheel.stats.interleaving import team_draft


class NothingLive(Exception):  # noqa: N818 - it reads as what it says
    """No model is loaded yet."""


class UnknownModel(Exception):  # noqa: N818 - it reads as what it says
    """The name is neither an alias nor the version of a model that is loaded."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked for; `person` is the one followed through an experiment, "" for nobody."""

    query: str
    k: int
    filters: Filters
    person: str


@dataclass(frozen=True, slots=True)
class _Shown:
    """A ranking, before it becomes a page."""

    ranker: Ranker
    hits: tuple[Hit, ...]
    teams: tuple[str, ...] | None = None
    placement: Placement | None = None


class SearchEngine:
    """Thread-safe. `swap` changes all that is served in one assignment; a running search ends with the old state.

    Args:
        titles: also decides which documents are deleted.
        now_ms: wall clock, for the page's timestamp.
        seconds: monotonic clock, for its latency.
    """

    def __init__(
        self,
        titles: Titles,
        *,
        now_ms: Callable[[], int],
        seconds: Callable[[], float],
        cache_queries: int,
        live: Live | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._seconds = seconds
        self._vectors = QueryVectors(cache_queries)
        self._ranking = Retriever(self._vectors, titles)
        self._live = live

    @property
    def live(self) -> Live | None:
        return self._live

    def swap(self, live: Live | None) -> None:
        """Serve this from the next search on."""
        self._live = live
        self._vectors.forget_all_but({ranker.version for ranker in live.rankers} if live else set())

    def counts(self) -> Mapping[str, int]:
        """Running totals, for the metrics."""
        return {
            "vector_cache_hits": self._vectors.hits,
            "vector_cache_misses": self._vectors.misses,
            "encoder_batches": self._vectors.batches,
        }

    def ranker(self, name: str) -> Ranker:
        """The loaded model of that alias (champion, challenger) or version.

        Raises:
            NothingLive, UnknownModel
        """
        loaded = self._loaded()
        if name not in loaded:
            raise UnknownModel(f"model {name!r} is not loaded; loaded are {', '.join(sorted(loaded))}")
        return loaded[name]

    def loaded(self) -> dict[str, str]:
        """The names that `ranker` takes, each with the version that it means now.

        Raises:
            NothingLive
        """
        return {name: ranker.version for name, ranker in self._loaded().items()}

    def _loaded(self) -> dict[str, Ranker]:
        live = self._require()
        loaded = {"champion": live.champion, live.version: live.champion}
        if live.challenger is not None:
            loaded |= {"challenger": live.challenger, live.challenger.version: live.challenger}
        return loaded

    def search(
        self,
        query: str,
        k: int,
        *,
        client_id: str | None = None,
        session_id: str | None = None,
        filters: Filters | None = None,
    ) -> Page:
        """The page for `query`, best first, at most `k` hits.

        A person is followed through an experiment by `client_id`, else by `session_id`. A person with neither sees the
        champion and takes no part.

        Raises:
            NothingLive: no model is loaded yet.
        """
        started = self._seconds()
        live = self._require()
        query_id = str(uuid.uuid4())
        person = client_id or session_id
        if live.frozen is not None and assign(live.frozen.experiment, person) is not None:
            live = live.frozen  # outside every other experiment, and outside exploration
        arm = assign(live.experiment, person) if live.challenger else None
        shown = self._shown(live, arm, _Wish(query, k, filters or Filters(), person or ""))
        if arm is None and live.explorer is not None and (filters is None or filters.doc_ids is None):
            shown = self._explored(live, shown, query, query_id)
        return Page(
            query_id=query_id,
            text=query,
            timestamp_ms=self._now_ms(),
            latency_ms=(self._seconds() - started) * 1000,
            model_version=shown.ranker.version,
            index_id=shown.ranker.index.index_id,
            hits=shown.hits,
            client_id=client_id,
            session_id=session_id,
            experiment_id=live.experiment.experiment_id if arm and live.experiment else None,
            arm=arm,
            propensities=shown.placement.propensities if shown.placement else None,
            teams=shown.teams,
            explored=shown.placement.explored if shown.placement else (),
            fair_pair=shown.placement.fair_pair if shown.placement else None,
            filtered=filters is not None and filters.doc_ids is not None,
        )

    def _require(self) -> Live:
        live = self._live
        if live is None:
            raise NothingLive("no model is loaded yet; `flywheel status` says what the daemon is waiting for")
        return live

    def _shown(self, live: Live, arm: Arm | None, wish: _Wish) -> _Shown:
        """The ranking of one model, or both interleaved; both choose from the same documents."""
        challenger = live.challenger
        if challenger is None or arm != "interleaved":
            ranker = live.ranker_of(arm)
            return _Shown(ranker, tuple(self._best(ranker, wish).values()))
        theirs = self._best(challenger, wish)
        ours = self._best(live.champion, wish)
        experiment_id = live.experiment.experiment_id if live.experiment else ""
        coin = np.random.default_rng(seed("interleave", experiment_id, wish.person, wish.query))
        doc_ids, teams = team_draft(list(ours), list(theirs), wish.k, coin)
        either = {**theirs, **ours}
        return _Shown(live.champion, tuple(either[doc_id] for doc_id in doc_ids), teams=tuple(teams))

    def _best(self, ranker: Ranker, wish: _Wish) -> dict[str, Hit]:
        return self._ranking.best(ranker, wish.query, wish.k, wish.filters)

    def _explored(self, live: Live, shown: _Shown, query: str, page: str) -> _Shown:
        """The ranking with documents to explore, if the plan has any for this query.

        A page has at most one intervention, so that the effect of each can be told: the caller leaves out pages of
        experiments. It leaves out filtered pages too, since the filter may not allow what the plan adds.
        """
        ranked = {hit.doc_id: hit for hit in shown.hits}
        placement = live.explorer.place(query, tuple(ranked), page=page) if live.explorer else None
        if placement is None:
            return shown
        missing = tuple(doc_id for doc_id in placement.hits if doc_id not in ranked)
        new = self._ranking.best(shown.ranker, query, len(missing), Filters(doc_ids=missing)) if missing else {}
        if not all(doc_id in ranked or doc_id in new for doc_id in placement.hits):
            return shown  # a document was deleted meanwhile, and propensities are right only for the whole placement
        return _Shown(shown.ranker, tuple((ranked | new)[doc_id] for doc_id in placement.hits), None, placement)
