"""The shadow: a challenger ranks live queries that it does not serve, off the request path, a bounded step at a time.

It never promotes: it rejects a challenger that is slower or clearly worse, or passes it on. What nobody saw can only be
estimated, and only within what the log holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flywheel.gates.decision import GateDecision, Verdict
from flywheel.gates.shadow import ShadowPolicy, decide_shadow
from flywheel.stats.metrics import overlap, rbo
from flywheel.store.evaluation.shadow import Progress, Ranked, Shadows

DAY_MS = 86_400_000
Vectors = npt.NDArray[np.float32]


class Queries(Protocol):
    """The part of an encoder that ranking uses."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...


class Documents(Protocol):
    """The part of an index that ranking uses."""

    def search(self, vectors: Vectors, k: int) -> tuple[list[list[str]], Vectors]: ...


@dataclass(frozen=True, slots=True)
class Side:
    """One model with the index that its query vectors live in."""

    encoder: Queries
    index: Documents

    def rank(self, texts: Sequence[str], k: int) -> list[list[str]]:
        """The first `k` documents of each query."""
        return self.index.search(self.encoder.encode_queries(texts), k)[0]


@dataclass(frozen=True)
class Shadow:
    """One experiment's shadow. All its state is in the store, so that the same calls go on after a crash.

    Args:
        seconds: monotonic clock, to time both models.
    """

    shadows: Shadows
    experiment_id: str
    policy: ShadowPolicy
    seconds: Callable[[], float]

    def begin(self, run_id: str, since_ms: int) -> None:
        """Start with the first page after `since_ms`, where the feedback of the challenger's training ended."""
        self.shadows.begin(self.experiment_id, run_id, since_ms)

    def step(self, champion: Side, challenger: Side, until_ms: int) -> bool:
        """Rank some new queries or, when there are none, count the waiting pages; returns whether there is more to do.

        It reads only batches that came before `until_ms`, usually the watermark: feedback on them is complete.
        """
        progress = self._progress()
        window = self.shadows.window(progress, until_ms, self.policy.step_pages)
        if window is None:
            return False
        new = self.shadows.unranked(self.experiment_id, progress, window, self.policy.step_queries)
        if new:
            ranked = self._rank(new, champion, challenger)
            self.shadows.add_rankings(self.experiment_id, progress.run_id, ranked, self.policy.reading)
        else:
            self.shadows.count(self.experiment_id, progress, window, self.policy.reading)
        return True

    def done(self) -> bool:
        """Whether enough pages, or enough days of them, are counted for the one look."""
        progress = self._progress()
        days = ((progress.last_ms or 0) - (progress.first_ms or 0)) / DAY_MS
        return progress.pages >= self.policy.pages or days >= self.policy.days

    def verdict(self) -> GateDecision:
        """The decision so far; not final while the shadow goes on. See `decide_shadow`."""
        progress = self._progress()
        if not self.done():
            waits = f"{progress.pages} pages ranked in the shadow; {self.policy.pages} are waited for"
            return GateDecision(Verdict.INCONCLUSIVE, (waits,), {"pages": progress.pages}, 0.0, final=False)
        return decide_shadow(self.shadows.measured(self.experiment_id, progress.run_id), self.policy)

    def _progress(self) -> Progress:
        progress = self.shadows.progress(self.experiment_id)
        if progress is None:
            raise LookupError(f"the shadow of experiment {self.experiment_id} was never begun")
        return progress

    def _rank(self, new: Sequence[tuple[str, str]], champion: Side, challenger: Side) -> list[Ranked]:
        depth = self.policy.reading.depth
        texts = [text for _, text in new]
        times = self._time(texts, champion, challenger)
        ours, theirs = champion.rank(texts, depth), challenger.rank(texts, depth)
        return [
            Ranked(key, text, a, b, overlap(a, b, depth), rbo(a, b), *times.get(row, (None, None)))
            for row, ((key, text), a, b) in enumerate(zip(new, ours, theirs, strict=True))
        ]

    def _time(self, texts: Sequence[str], champion: Side, challenger: Side) -> dict[int, tuple[float, float]]:
        """Milliseconds by row of some queries, one at a time as they are served; the models take turns to go first."""
        left = self.policy.timed - self.shadows.timed(self.experiment_id)
        wanted = min(len(texts), self.policy.step_timed, left)
        if wanted <= 0:
            return {}
        depth = self.policy.reading.depth
        sides = (champion, challenger)
        for side in sides:
            side.rank(texts[:1], depth)  # warm up: the first call is slower than the ones that serve
        times = {}
        for row in range(wanted):
            spent = [0.0, 0.0]
            for place in (0, 1) if row % 2 else (1, 0):
                started = self.seconds()
                sides[place].rank(texts[row : row + 1], depth)
                spent[place] = (self.seconds() - started) * 1000
            times[row] = (spent[0], spent[1])
        return times
