"""Times are epoch milliseconds in Python, and UTC timestamps without a zone in the database."""

from __future__ import annotations

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(ms: int | None) -> datetime | None:
    """Epoch milliseconds as the value of a TIMESTAMP column."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).replace(tzinfo=None)


def millis(moment_: datetime | None) -> int | None:
    """The value of a TIMESTAMP column as epoch milliseconds."""
    return None if moment_ is None else round((moment_.replace(tzinfo=UTC) - _EPOCH).total_seconds() * 1000)
