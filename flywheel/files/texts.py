"""Reads the values of text files with their places: JSON lines, JSON arrays and CSV, whatever wrote them.

Bytes that are not UTF-8 spoil only the cells that they stand in. What spoils the whole file is refused with its line.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from flywheel.files import answers
from flywheel.files.cells import UnreadableCell
from flywheel.files.lines import MOST_CHARACTERS
from flywheel.files.lines import whole as read_whole
from flywheel.files.skipped import ImportCount, ImportFailed

Placed = tuple[str, Any]
"""Where a value stands, as FILE:LINE, and the value; `None` for one that was counted as skipped."""
# the longer marks first: UTF-32's begins with UTF-16's
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')
csv.field_size_limit(MOST_CHARACTERS)  # the module's own limit is 131,072 characters, and documents are longer


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A text file, plain or `.gz`, in UTF-8 or in what its byte order mark says.

    A byte that is no UTF-8 becomes one of U+DC80 to U+DCFF, which `flywheel.files.cells` refuses where it is needed.

    Raises:
        ImportFailed: UTF-16 without a mark.
    """
    # newline="": the csv module reads line ends itself
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
        encoding = _encoding(path, raw.read(4))
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding=encoding, errors=errors, newline="") as file:
            yield file
    else:
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            yield file


def _encoding(path: Path, start: bytes) -> str:
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        raise ImportFailed(f"{path}:1: looks like UTF-16 without a byte order mark; save it as UTF-8")
    return "utf-8-sig"  # also without that mark, which spreadsheets write


def json_lines(path: Path, lines: Iterator[str], tally: ImportCount) -> Iterator[Placed]:
    """One value a line."""
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{path.name}:{line_number}"
            try:
                value = json.loads(line, parse_constant=_refused)
            except (ValueError, RecursionError) as error:
                tally.skip(_why(error), place)
                value = None
            yield place, value


def json_file(path: Path, file: TextIO, tally: ImportCount) -> Iterator[Placed]:
    """The values of a `.json` file: a list, a search answer of OpenSearch, one object, or one object a line.

    Raises:
        ImportFailed: none of these.
    """
    whole = read_whole(file)
    lines = whole.splitlines(keepends=True)
    if _is_lines(lines):
        yield from json_lines(path, iter(lines), tally)
        return
    try:
        value = json.loads(whole, parse_constant=_unreadable)
    except json.JSONDecodeError as error:
        raise ImportFailed(f"{path}:{error.lineno}: no JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise ImportFailed(f"{path}: {_why(error)}") from error
    spoilt = any(name in whole for name in ("NaN", "Infinity"))
    for number, item in enumerate(_items(value), 1):
        place = f"{path.name} item {number}"
        constant = _constant(item) if spoilt else None
        if constant is None:
            yield place, item
        else:
            tally.skip(constant.reason, place)
            yield place, None


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("hits"), dict) and isinstance(value["hits"].get("hits"), list):
        return list(value["hits"]["hits"])
    return value if isinstance(value, list) else [value]


def _is_lines(lines: list[str]) -> bool:
    """Whether there are several lines and the first is an object of its own."""
    full = [line for line in lines[:100] if line.strip()][:2]
    if len(full) < 2 or not full[0].lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(full[0]), dict)
    except (ValueError, RecursionError):
        # a pretty-printed object opens with a line that is no value; a line of its own ends with a brace
        return full[0].rstrip().endswith("}") and full[1].lstrip().startswith("{")


def _refused(name: str) -> Any:
    raise ValueError(_unreadable(name).reason)


def _unreadable(name: str) -> UnreadableCell:
    return UnreadableCell(f"not JSON: {name} is no number there")


def _constant(value: Any) -> UnreadableCell | None:
    if isinstance(value, UnreadableCell):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := _constant(item)) is not None), None)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    return str(error) if str(error).startswith("not JSON") else "not JSON: a number of thousands of digits"


def csv_rows(path: Path, file: TextIO, tally: ImportCount, *, tabs: bool) -> Iterator[Placed]:
    """Each row as a mapping by the header's names, which lose the blanks around them. Commas, semicolons, tabs and
    bars are told apart by the header line; of two columns with one name the second gets a number.

    Raises:
        ImportFailed: a quote that never closes.
    """
    source = _Lines(file)
    header_line = source.peek()
    if header_line.startswith("sep=") and len(header_line.rstrip("\r\n")) == 5:  # what Excel writes for itself
        next(source)
        header_line = source.peek()
    reader = csv.reader(source, delimiter=_separator(header_line, tabs=tabs))
    header = answers.distinct([name.strip() for name in next(reader, [])])
    while True:
        source.begin()
        row = next(reader, None)
        place = f"{path.name}:{source.first}"
        if source.unclosed:
            raise ImportFailed(f"{path}:{source.first}: a quote that opens here never closes; a quote within a cell is "
                               "written twice")  # fmt: skip
        if row is None:
            return
        if any(row[len(header) :]):
            tally.skip("more cells than the header has names; a cell that holds the separator needs quotes", place)
            yield place, None
        elif row:
            yield place, dict(zip(header, row, strict=False))


def _separator(header: str, *, tabs: bool) -> str:
    bare = _QUOTED.sub("", header)
    counts = {separator: bare.count(separator) for separator in _SEPARATORS}
    usual = "\t" if tabs else ","
    most = max(counts, key=lambda separator: counts[separator])
    return usual if counts[usual] or not counts[most] else most


class _Lines:
    """The lines of a file for the csv module, with the place and the quotes of the row that is being read."""

    def __init__(self, file: TextIO) -> None:
        self._lines, self._ahead = iter(file), list[str]()
        self._number = self._taken = self._quotes = 0

    def peek(self) -> str:
        """The next line, which stays."""
        if not self._ahead:
            self._ahead = [line for line in [next(self._lines, "")] if line]
        return self._ahead[0] if self._ahead else ""

    def begin(self) -> None:
        """A row begins."""
        self._taken = self._quotes = 0

    @property
    def first(self) -> int:
        """The row's first line."""
        return self._number - max(self._taken, 1) + 1

    @property
    def unclosed(self) -> bool:
        """Whether the row goes over several lines and ends with the file, within quotes."""
        return self._taken > 1 and self._quotes % 2 == 1 and not self.peek()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.pop() if self._ahead else next(self._lines)
        self._number += 1
        self._taken += 1
        self._quotes += line.count('"')
        return line
