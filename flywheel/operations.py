"""What commands, the HTTP API and the dashboard can ask of an installation: one protocol, two ways to reach it.

It answers nothing itself: `flywheel.daemon.local` answers from the home, `flywheel.client` asks the daemon that owns
the home. Every answer is plain JSON, except SQL's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

Json = dict[str, Any]
RecordKind = Literal["documents", "annotations", "feedback"]
JudgedKind = Literal["golden", "anchors"]


class OperationError(Exception):
    """A request that cannot be fulfilled; the message names the cause and the fix, `code` is for programs."""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class Operations(Protocol):
    """One method for each question and each command.

    The commands of the same name print the answers with `--json`, and the HTTP API sends them.
    `flywheel.daemon.local` builds each one.
    """

    def status(self) -> Json: ...

    def models(self) -> list[Json]: ...

    def experiments(self) -> list[Json]: ...

    def triggers(self) -> list[Json]: ...

    def decisions(self) -> list[Json]: ...

    def cycle(self, wait: bool, tier: str | None = None) -> Json: ...

    def promote(self, version: str, reason: str, actor: str) -> Json: ...

    def rollback(self, reason: str, actor: str) -> Json: ...

    def pause(self) -> Json: ...

    def resume(self) -> Json: ...

    def sql(self, statement: str) -> pa.Table: ...

    def import_records(self, kind: RecordKind, records: list[Json]) -> Json: ...

    def import_judged(self, kind: JudgedKind, name: str, queries: list[Json], judgements: list[Json]) -> Json: ...

    def seen_documents(self) -> list[str]: ...

    def erase_user(self, user_id: str) -> Json: ...

    def backup(self, path: str) -> Json: ...

    def doctor(self) -> list[Json]: ...

    def arrivals(self, minutes: float) -> Json: ...

    def dead_letters(self, reason: str | None, field: str | None, topic: str | None, limit: int) -> Json: ...

    def dead_letter(self, topic: str, partition: int, offset: int) -> list[Json]: ...

    def replay_dead_letters(self, reason: str | None, field: str | None, topic: str | None) -> Json: ...

    def configure(self, key: str, value: str, actor: str) -> Json: ...
