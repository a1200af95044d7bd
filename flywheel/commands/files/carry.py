"""Carries the records of a file to where they are stored, and tells what became of every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import note, print_json, progress
from flywheel.operations import OperationError

if TYPE_CHECKING:
    from flywheel.files.skipped import ImportCount
    from flywheel.operations import Operations, RecordKind

Record = dict[str, Any]
Reader = Callable[[Path, "ImportCount"], Iterator[Record]]
# another record of the batch cannot be to blame for these
_NOT_THE_RECORDS = frozenset({"unreachable", "unauthorised", "foreign_host", "foreign_origin", "no_champion"})
# nothing new, and nothing wrong: what the file brings is there
_THERE = frozenset({"stored already", "not newer than what is stored"})
_PLACES_SHOWN = 3
# what an operation counts in each batch: a number, or numbers by name
_COUNTED = frozenset({"merged", "ignored", "unknown_actions"})


class Carrier:
    """Hands records over and adds up the answers; `stored` counts what is new."""

    def __init__(self, operations: Operations, kind: RecordKind, tally: ImportCount) -> None:
        self._operations, self._kind, self.tally = operations, kind, tally
        self.stored = 0
        self.extra: dict[str, Any] = {}

    def carry(self, batch: list[tuple[str, Record]]) -> None:
        """Store a batch. One that is refused as a whole is halved until the record is found that spoils it.

        Raises:
            OperationError: the refusal has nothing to do with the records.
        """
        try:
            answer = self._operations.import_records(self._kind, [record for _, record in batch])
        except OperationError as error:
            if error.code in _NOT_THE_RECORDS or self._kind == "annotations":
                raise
            if len(batch) == 1:
                self.tally.skip(str(error), batch[0][0])
                return
            half = len(batch) // 2
            self.carry(batch[:half])
            self.carry(batch[half:])
            return
        self.stored += int(answer.pop("stored"))
        self.tally.reasons.update(answer.pop("reasons", None) or {})
        for reason, rows in (answer.pop("rows", None) or {}).items():
            for row in rows:
                self.tally.mark(reason, batch[row][0])
        for name, value in answer.items():
            if name in _COUNTED:
                self.extra[name] = _sum(self.extra.get(name), value)
            elif name not in ("read", "skipped"):
                self.extra[name] = value


def _sum(before: Any, more: Any) -> Any:
    if isinstance(more, dict):
        return dict(Counter(before or {}) + Counter(more))
    return (before or 0) + more


def bring(operations: Operations, kind: RecordKind, file: Path, read: Reader, *, size: int | None) -> Carrier:
    """Read a file and store its records in batches of `size`; None: in one."""
    from flywheel.files.skipped import ImportCount

    tally = ImportCount()
    carrier = Carrier(operations, kind, tally)
    # a reader stands still between two records, so that its place is that of the record it gave last
    placed = ((tally.place, record) for record in read(file, tally))
    with progress(f"importing {kind}") as report:
        while batch := list(islice(placed, size)):
            carrier.carry(batch)
            report(tally.read, 0)
    return carrier


def tell(answer: dict[str, Any], *, as_json: bool) -> int:
    """Print what became of the rows; returns the exit code: 1 if nothing is stored, now or before."""
    if as_json:
        print_json(answer)
    else:
        click.echo(f"read {answer['read']}, stored {answer['stored']}, skipped {answer['skipped']}")
        places = answer.get("places") or {}
        for reason, count in (answer.get("reasons") or {}).items():
            first = places.get(reason, [])[:_PLACES_SHOWN]
            more = ", …" if first and count > len(first) else ""
            click.echo(f"  {count} × {reason}" + (f" ({', '.join(first)}{more})" if first else ""))
        for field, count in (answer.get("ignored") or {}).items():
            click.echo(f"  left out {count} × {field}")
        for name, count in (answer.get("unknown_actions") or {}).items():
            click.echo(f"  kept and not used {count} × action_name {name}; see signals.action_names")
        if answer.get("precision"):
            click.echo(answer["precision"]["meaning"])
    for problem in answer.get("problems") or ():
        note(f"note: {problem}")
    there = any(reason in _THERE for reason in answer.get("reasons") or {})
    return 0 if answer["stored"] or there else 1


def answer_of(carrier: Carrier) -> dict[str, Any]:
    """`{read, stored, skipped, reasons, places}` and what else the operation said."""
    tally = carrier.tally
    counts = {"read": tally.read, "stored": carrier.stored, "skipped": tally.reasons.total()}
    return {**counts, "reasons": dict(tally.reasons), "places": dict(tally.places), **carrier.extra}
