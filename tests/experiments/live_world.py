"""People who search day after day while a director moves challengers: pages and feedback through the real store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flywheel.events import Batch, Coordinates, Event, Kind, Query
from flywheel.experiments.director import Director
from flywheel.experiments.lineup import METHODS
from flywheel.experiments.stages import CONFIRMATION, Stage, live_stages
from flywheel.gates.judged import policy_of
from flywheel.serving.assignment import assign
from flywheel.serving.served import LiveExperiment as Served
from flywheel.settings.load import Config, parse
from flywheel.store import Store
from flywheel.store.evaluation.decisions import CHAMPION, Decision
from flywheel.store.evaluation.experiments import Experiment
from flywheel.store.training.models import Model

START = 1_700_000_000_000
DAY = 86_400_000
TEAMS = ("champion", "challenger")


@dataclass(frozen=True)
class Quality:
    """How people find a version's pages."""

    clicks: float = 0.5
    satisfied: float = 0.25
    latency_ms: float = 40.0


EQUAL, BETTER, WORSE = Quality(), Quality(0.65, 0.4), Quality(0.4, 0.12)


def settings(*stages: str, **promotion: Any) -> Config:
    """Small numbers that a simulated week can reach."""
    values = {"stages": stages, "ramp": (0.1, 0.5), "min_users": 100, "min_days": 0, "holdback": 0.5, **promotion}
    return parse({"promotion": values, "signals": {"watermark_minutes": 0}})


@dataclass
class World:
    """One installation and its people. Time is the people's: the clock shows the end of the last day."""

    store: Store
    config: Config
    qualities: Mapping[str, Quality]
    people: int = 1_200
    seed: int = 0
    day: int = 0
    told: list[str] = field(default_factory=list)
    arm_of: Callable[[str, Experiment | None], str | None] | None = None
    unready: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        for version in self.qualities:
            self.store.models.add(Model(version, "query_tower", f"/{version}", "space", START))
        if not self.store.models.aliases():
            self.store.decisions.decide(Decision("initial", "initial", "v0", "test", START, alias=CHAMPION))
        self.offset = self.store.feedback.offsets("sim").get(("sim", 0), 0)
        self.director = self.make_director()

    def make_director(self, **further: Stage) -> Director:
        """As the daemon makes it."""
        policy = policy_of(self.config)
        director = Director(
            self.store,
            self.config.promotion,
            live_stages(self.store.tally, self.config, policy) | further,
            policy,
            ready=self.unready,
            now_ms=self.now_ms,
        )
        director.listeners.append(self.told.append)
        return director

    def now_ms(self) -> int:
        return START + self.day * DAY

    def queue(self, version: str, stage: str, run_id: str = "run-1") -> None:
        """As the offline gate leaves it."""
        row = Experiment(f"{run_id}-{stage}", version, "v0", stage, self.now_ms(), run_id=run_id)
        self.store.experiments.add(row)
        self.store.models.set_state(version, "queued")

    def live_through(self, days: int) -> None:
        """Days of searches, with looks after each."""
        for _ in range(days):
            self.search_for_a_day()
            for _ in range(3):
                self.director.step()

    def search_for_a_day(self, row: Experiment | None = None) -> None:
        """A third of the people come, few of them often; `row` is what is tried, else what the store says is live."""
        row = row or self.store.experiments.live()
        batch = Batch()
        number = 0
        for person in self.rng.choice(self.people, self.people // 3, replace=False):
            for _ in range(1 + min(8, int(self.rng.pareto(2.0)))):
                page, events = self.page(f"p{person}", row, f"{self.day}-{number}")
                number += 1
                batch.queries.append((Coordinates("sim", 0, self.offset), page))
                self.offset += 1
                for event in events:
                    batch.events.append((Coordinates("sim", 0, self.offset), event))
                    self.offset += 1
        batch.next_offsets["sim", 0] = self.offset
        self.day += 1
        last = Query(f"end-{self.day}", "the day ends", self.now_ms())
        batch.queries.append((Coordinates("end", 0, self.day), last))
        self.store.feedback.ingest(batch, "sim", self.now_ms())

    def page(self, person: str, row: Experiment | None, name: str) -> tuple[Query, list[Event]]:
        """One page as it is served while `row` is live, and what the person does with it."""
        ts = self.now_ms() + int(self.rng.integers(DAY))
        arm = (self.arm_of or self.assigned)(person, row)
        champion = self.store_champion
        versions = {"champion": champion, "challenger": champion}
        if row is not None:
            versions = {"champion": row.champion, "challenger": row.version}
        shown = versions.get(arm or "", champion)
        teams = tuple(self.rng.permutation([*TEAMS, *TEAMS])) if arm == "interleaved" else None
        found = self.qualities[shown]
        serves = row is not None and row.stage in METHODS and arm is not None
        page = Query(
            name,
            "how",
            ts,
            client_key=person,
            hit_ids=("d1", "d2", "d3", "d4"),
            model_version=shown,
            experiment_id=row.experiment_id if serves and row else None,
            arm=arm,
            teams=teams,
            latency_ms=float(found.latency_ms * self.rng.lognormal(0, 0.3)),
        )
        if teams is None:
            return page, self.react(page, 1, found, ts)
        return page, [
            event
            for rank, team in enumerate(teams, 1)
            for event in self.react(page, rank, self.qualities[versions[team]], ts, share=0.3)
        ]

    def react(self, page: Query, rank: int, found: Quality, ts: int, share: float = 1.0) -> list[Event]:
        """A click, and perhaps a long dwell."""
        draw = self.rng.random()
        if draw >= found.clicks * share:
            return []
        common = {"query_id": page.query_id, "doc_id": page.hit_ids[rank - 1], "client_key": page.client_key}
        click = Event(f"c{page.query_id}-{rank}", Kind.CLICK, "click", ts + 1, rank=rank, **common)
        if draw >= found.satisfied * share:
            return [click]
        return [click, Event(f"d{page.query_id}-{rank}", Kind.DWELL, "dwell", ts + 2, dwell_ms=60_000, **common)]

    def assigned(self, person: str, row: Experiment | None) -> str | None:
        """As our own serving assigns."""
        if row is None or row.stage not in METHODS:
            return None
        return assign(Served(row.experiment_id, METHODS[row.stage], row.share or 0.0), person)

    @property
    def store_champion(self) -> str:
        """Cached per day: it only changes in a director's step."""
        return self.store.models.aliases()[CHAMPION]

    def confirmation(self) -> Experiment | None:
        """The watch over the promotion."""
        return self.store.experiments.get(f"run-1-{CONFIRMATION}")
