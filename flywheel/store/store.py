"""The store: one database file, opened once, with a part for each topic. It holds no SQL of its own."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from flywheel.settings.load import Limits, Signals
from flywheel.store.evaluation.decisions import Decisions
from flywheel.store.evaluation.experiments import Experiments
from flywheel.store.evaluation.golden import Golden
from flywheel.store.evaluation.outcomes import Outcomes
from flywheel.store.evaluation.shadow import Shadows
from flywheel.store.evaluation.tally import Tally
from flywheel.store.feedback.arrivals import Arrivals
from flywheel.store.feedback.documents import Documents
from flywheel.store.feedback.erasure import Erasure
from flywheel.store.feedback.expiry import Expiry
from flywheel.store.feedback.exploration import ExplorationTable
from flywheel.store.feedback.feedback import Feedback
from flywheel.store.feedback.letters import DeadLetters
from flywheel.store.feedback.stored import StoredRecords
from flywheel.store.feedback.traffic import Traffic
from flywheel.store.published.analytics import PublishedFolder
from flywheel.store.schema.database import Database
from flywheel.store.schema.migrations import migrate
from flywheel.store.state import State
from flywheel.store.statements.statements import Statements
from flywheel.store.training.checks import EvidenceChecks
from flywheel.store.training.heldout import HeldOutReader
from flywheel.store.training.models import Models
from flywheel.store.training.runs import Runs

if TYPE_CHECKING:
    from flywheel.store.clicks.evidence import EvidenceReader
    from flywheel.store.training.pairs import PairTable

_LIMITS, _SIGNALS = Limits(), Signals()


class Store:
    """Everything that an installation remembers. `Store.open` makes it. Threads may share it."""

    def __init__(
        self,
        database: Database,
        feedback: Feedback,
        stored: StoredRecords,
        sql_at_once: int = _LIMITS.sql_at_once,
    ) -> None:
        self.database = database
        self.feedback = feedback
        self.stored = stored
        self.arrivals = Arrivals(database)
        self.dead_letters = DeadLetters(database, feedback)
        self.documents = Documents(database)
        self.models = Models(database)
        self.decisions = Decisions(database)
        self.runs = Runs(database)
        self.checks = EvidenceChecks(database)
        self.experiments = Experiments(database)
        self.exploration = ExplorationTable(database)
        self.outcomes = Outcomes(database)
        self.tally = Tally(database)
        self.golden = Golden(database)
        self.heldout = HeldOutReader(database)
        self.shadows = Shadows(database)
        self.traffic = Traffic(database)
        self.state = State(database)
        self.erasure = Erasure(database, feedback)
        self.analytics = PublishedFolder(database, database.folder / "analytics")
        self.expiry = Expiry(database)
        self.sql = Statements(self.analytics, database.folder / "analytics", sql_at_once)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        memory_gb: float = _LIMITS.duckdb_memory_gb,
        threads: int | None = None,
        dedupe_hours: float = _SIGNALS.dedupe_hours,
        watermark_minutes: float = _SIGNALS.watermark_minutes,
        recent_ids: int = 1_000_000,
        sql_at_once: int = _LIMITS.sql_at_once,
    ) -> Store:
        """Open or create the database file and bring its schema up to date.

        Raises:
            StoreLocked: another process, or another store of this one, has it open.
            StoreError: unreadable, unwritable, or made by a newer version.
        """
        database = Database(path, memory_gb=memory_gb, threads=threads)
        try:
            migrate(database)
            feedback = Feedback(
                database, dedupe_hours=dedupe_hours, watermark_minutes=watermark_minutes, recent_ids=recent_ids
            )
        except BaseException:
            database.close()
            raise
        return cls(database, feedback, StoredRecords(database, dedupe_hours=dedupe_hours), sql_at_once)

    @cached_property
    def evidence(self) -> EvidenceReader:
        """Aggregated clicks for the click model."""
        from flywheel.store.clicks.evidence import EvidenceReader

        return EvidenceReader(self.database)

    @cached_property
    def pairs(self) -> PairTable:
        """Training pairs and their provenance."""
        from flywheel.store.training.pairs import PairTable

        return PairTable(self.database)

    def close(self) -> None:
        """Write the last checkpoint and let go of the file."""
        self.sql.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
