"""What can go wrong in the store. Every message names the cause and the fix."""

from __future__ import annotations


class StoreError(Exception):
    """The database could not do what was asked. Nothing of the transaction was written."""


class StoreLocked(StoreError):  # noqa: N818 - the name that callers catch says what happened
    """Another process has the database open."""


class StoreFull(StoreError):  # noqa: N818 - as above
    """The disk or the file size limit is reached. Once there is room, the same call succeeds."""

    passing = True  # it says nothing about the record that was to be written


class SqlRefused(StoreError):  # noqa: N818 - as above
    """A statement that is not one read-only query, or that went over its limits."""


class SqlBusy(StoreError):  # noqa: N818 - as above
    """As many statements as may run at once are running; asking again later succeeds."""
