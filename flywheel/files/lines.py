"""Reads text line by line within a bound, so that a small compressed file cannot fill the memory with one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

MOST_CHARACTERS = 64 * 1024 * 1024


class LineTooLong(ValueError):  # noqa: N818 - reads as what happened
    """A line, or a file that is one value, has more than `MOST_CHARACTERS`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} has more than {MOST_CHARACTERS >> 20} million characters; bring shorter rows")


def bounded(file: TextIO) -> Iterator[str]:
    """The lines of a file with their ends.

    Raises:
        LineTooLong: as soon as that is certain, before the rest of the line is read.
    """
    number = 1
    while line := file.readline(MOST_CHARACTERS + 1):
        if len(line) > MOST_CHARACTERS:
            raise LineTooLong(number)
        yield line
        number += 1


def whole(file: TextIO) -> str:
    """All of a file that has to be read at once.

    Raises:
        LineTooLong
    """
    text = file.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise LineTooLong(1)
    return text
