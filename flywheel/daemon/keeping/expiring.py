"""Once a day, deletes what is older than `[keeping]` allows: feedback, letters, snapshots, models out of use."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from flywheel.settings.home import Home
from flywheel.settings.load import Keeping
from flywheel.store.feedback.expiry import DAY_MS
from flywheel.store.store import Store

log = logging.getLogger(__name__)
_ENDED = ("rejected", "failed", "retired")


class Retention:
    """Looks when it is called, and does its work once a day."""

    def __init__(
        self, home: Home, store: Store, settings: Keeping, keep: Callable[[], set[str]], now_ms: Callable[[], int]
    ) -> None:
        """`keep` names the model versions that must stay whatever their age."""
        self._home, self._store, self._settings, self._keep, self._now_ms = home, store, settings, keep, now_ms
        self._done_ms = 0

    def step(self) -> None:
        """Delete what is too old. The files of deleted rows follow with the next writing anew."""
        now, settings = self._now_ms(), self._settings
        if now - self._done_ms < DAY_MS:
            return
        gone = {
            "pages and events": self._feedback(now, settings.feedback_days),
            "letters": self._store.expiry.letters(now, settings.letter_days),
            "snapshots": self._snapshots(now, settings.snapshot_days),
            "models": self._models(now, settings.model_days),
        }
        self._done_ms = now
        told = ", ".join(f"{number} {name}" for name, number in gone.items() if number)
        if told:
            log.info("deleted by age: %s", told)

    def _feedback(self, now: int, days: float | None) -> int:
        return 0 if days is None else self._store.expiry.feedback(now, days)

    def _snapshots(self, now: int, days: float) -> int:
        active = self._store.runs.active()
        old = [
            folder
            for folder in self._home.snapshots.iterdir()
            if folder.stat().st_mtime * 1_000 < now - days * DAY_MS and (active is None or folder.name != active.run_id)
        ]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return len(old)

    def _models(self, now: int, days: float | None) -> int:
        if days is None:
            return 0
        kept = self._keep()
        old = [
            self._home.models / model.version
            for model in self._store.models.all()
            if model.state in _ENDED and model.version not in kept and model.created_at_ms < now - days * DAY_MS
        ]
        present = [folder for folder in old if folder.is_dir()]
        for folder in present:
            shutil.rmtree(folder, ignore_errors=True)
        return len(present)
