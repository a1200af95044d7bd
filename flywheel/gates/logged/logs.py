"""Gathers logs of tests that somebody else ran: rows by arm in, sums by experiment and arm out.

It reads no file and judges nothing; `flywheel.gates.logged.arms` does. A log may hold any number of experiments and
arms, with users or without. Spellings of one arm are one arm, a missing id is nobody, what did not run side by side is
left out, and what was merged or left out is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.files.cells import BadCell
from flywheel.gates.logged.cells import cell, count, day_of, first, identity, named, number
from flywheel.stats.ratio import ArmSums
from flywheel.stats.winsor import winsorised

NO_EXPERIMENT = "all"
METRICS = {"ctr": "clicks", "satisfied_ctr": "satisfied"}
_NAMES = {
    "experiment": ("experiment", "experiment_id", "test", "test_id", "clickability_test_id"),
    "arm": ("arm", "variant", "variation", "group", "bucket", "model_version"),
    "user": ("user", "user_id", "client_id", "user_key", "visitor", "visitor_id"),
    "pages": ("pages", "impressions", "views"),
    "clicks": ("clicks", "clicked", "click"),
    "satisfied": ("satisfied", "satisfied_clicks"),
    "before": ("before",),
    "time": ("ts", "timestamp", "time", "date", "day"),
}
# an arm with a smaller share of the largest arm's users is a slip of the log, not an arm
STRAY = 0.005
APART = "arm {arm} is left out: it did not run beside the others, so that the weeks would be compared, not the arms"
# of an arm's pages, at either end, that say nothing about when it ran: clocks go wrong
_EDGE = 0.01
# of an arm's pages that may lie outside the time that all arms share and still count
TAIL = 0.05
Table = npt.NDArray[np.float64]


@dataclass(slots=True)
class _ArmRows:
    """One arm while it is read: rows of [pages, clicks, satisfied, before, own metrics] by user and day, and sums by
    day of pages without a user. The day is 0 where the log does not tell."""

    name: str
    spellings: set[str] = field(default_factory=set)
    users: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    nobody: dict[int, dict[str, ArmSums]] = field(default_factory=dict)
    days: Counter[int] = field(default_factory=Counter)

    @property
    def units(self) -> int:
        """Users, and pages without a user."""
        pages = sum(sums["ctr"].users for sums in self.nobody.values())
        return len({user for user, _ in self.users}) + pages


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's sums by metric; `steady` leaves out the twentieth of users who saw the most pages."""

    metrics: Mapping[str, ArmSums]
    steady: Mapping[str, ArmSums] = field(default_factory=dict)
    anonymous_pages: float = 0.0

    @property
    def users(self) -> int:
        """Users, and pages without a user."""
        return self.metrics["ctr"].users


@dataclass(frozen=True, slots=True)
class LoggedTest:
    """One experiment: its arms in the order of the log. `crossed` users met more than one arm and count in none; they
    had a share `crossed_pages` of the pages. `notes` say what was merged or left out."""

    name: str
    arms: Mapping[str, Arm]
    crossed: int = 0
    crossed_pages: float = 0.0
    notes: tuple[str, ...] = ()


class Log:
    """Gathers rows into tests.

    Args:
        own: columns that are metrics of the product's own, summed like clicks; an empty cell is 0.
        winsorise: quantile of users' totals at which those are cut; see `flywheel.stats.winsor`.

    Attributes:
        columns: names that any row had, in lower case.
    """

    def __init__(self, own: Sequence[str] = (), *, winsorise: float = 1.0) -> None:
        self.columns: set[str] = set()
        self._own, self._winsorise = tuple(name.casefold() for name in own), winsorise
        self._tests: dict[str, dict[str, _ArmRows]] = {}
        self._unnamed: Counter[str] = Counter()
        self._nobody: Counter[str] = Counter()

    def add(self, row: Mapping[str, Any]) -> str | None:
        """Take one row; returns why it is left out, or None.

        A row has an arm, pages (without them it is one page) and clicks. It may have experiment, user, satisfied
        clicks, a time, and `before` (see `ArmSums`). A row with an experiment and without any column of arms is an arm
        of its own, numbered as it comes.
        """
        row = {str(name).strip().casefold(): value for name, value in row.items()}
        self.columns |= row.keys()
        values = {name: first(row, names) for name, names in _NAMES.items()}
        problem = _unusable(row, values)
        if problem is not None:
            return problem
        experiment = named(values["experiment"]) or NO_EXPERIMENT
        arm_name = named(values["arm"])
        if arm_name is None:
            if any(name in row for name in _NAMES["arm"]):
                return "no arm: an empty cell or a word for nothing, such as null"
            if values["experiment"] is None or values["user"] is not None:
                return "no arm"
            self._unnamed[experiment] += 1
            arm_name = f"arm {self._unnamed[experiment]}"
        counts = self._counts(row, values)
        if isinstance(counts, str):
            return counts
        user, pages = identity(values["user"]), counts[0]
        if user is None and pages != 1 and any(value > pages for value in counts[1:3]):
            return "more clicks than pages, and no user: their spread is not known"
        if user is None and values["user"] is not None:
            self._nobody[str(values["user"]).strip()] += 1
        arms = self._tests.setdefault(experiment, {})
        arm = arms.setdefault(arm_name.casefold(), _ArmRows(arm_name))
        arm.spellings.add(str(values["arm"]) if values["arm"] is not None else arm_name)
        day = day_of(values["time"])
        arm.days[day] += round(pages)
        if user is None:
            _add_pages(
                arm.nobody.setdefault(day, {}), pages, dict(zip(self._metrics, counts[1:3] + counts[4:], strict=True))
            )
            return None
        total = arm.users.setdefault((user, day), [0.0] * len(counts))
        for place, value in enumerate(counts):
            if place != 3:
                total[place] += value
            elif not math.isnan(value):
                total[place] = value
        return None

    @property
    def _metrics(self) -> tuple[str, ...]:
        return (*METRICS, *self._own)

    def _counts(self, row: Mapping[str, Any], values: Mapping[str, Any]) -> list[float] | str:
        """[pages, clicks, satisfied (nan: unknown), before, own metrics], or what is wrong with them."""
        numbers = [count(values[name], default) for name, default in (("pages", 1.0), ("clicks", 0.0))]
        numbers += [count(cell(values["satisfied"]), math.nan), number(cell(values["before"]), math.nan)]
        numbers += [number(cell(row.get(name)), 0.0) for name in self._own]
        counts = [number for number in numbers if number is not None]
        if len(counts) < len(numbers):
            names = ("pages", "clicks", "satisfied", "before", *self._own)
            wrong = [name for name, number in zip(names, numbers, strict=True) if number is None]
            return f"{', '.join(wrong)}: no number{'' if set(wrong) & {'before', *self._own} else ' of at least 0'}"
        return "no pages" if counts[0] == 0 else counts

    def missing(self) -> str | None:
        """Which needed column no row has, the arm or the clicks; None where both are there.

        With a metric of the product's own nobody needs clicks.
        """
        arms = self.columns & {*_NAMES["arm"], *_NAMES["experiment"]}
        for name in (*(() if arms else ("arm",)), *(() if self._own else ("clicks",))):
            if not self.columns & {*_NAMES[name]}:
                return f"no column of {name} ({', '.join(_NAMES[name])}); there are: {', '.join(sorted(self.columns))}"
        return None

    def tests(self, keep: Sequence[str] = ()) -> list[LoggedTest]:
        """What was gathered, experiments in the order of the log; the arms named in `keep` are arms however small."""
        kept = {name.casefold() for name in keep}
        return [self._test(name, arms, kept) for name, arms in self._tests.items()]

    def _test(self, name: str, arms: Mapping[str, _ArmRows], keep: set[str]) -> LoggedTest:
        notes = [words for arm in arms.values() if (words := merged(arm.name, arm.spellings))]
        notes += [f"{count} rows of the user {word!r} count as rows of nobody" for word, count in self._nobody.items()]
        large = max(arm.units for arm in arms.values())
        strays = [key for key, arm in arms.items() if arm.units < STRAY * large and key not in keep]
        notes += [stray(arms[key].name, arms[key].units) for key in strays]
        arms = {key: arm for key, arm in arms.items() if key not in strays}
        window, apart = shared_days({key: arm.days for key, arm in arms.items()})
        notes += [APART.format(arm=arms[key].name) for key in apart]
        arms = {key: arm for key, arm in arms.items() if key not in apart}
        outside = sum(count for arm in arms.values() for day, count in arm.days.items() if not _within(day, window))
        if outside:
            notes.append(f"{outside} pages are left out: they are of days on which not all arms ran")
        rows = {key: _rows_of(arm, window, 4 + len(self._own)) for key, arm in arms.items()}
        met = Counter(user for table in rows.values() for user in table)
        crossed = {user for user, count in met.items() if count > 1}
        tables = {
            key: np.array([row for user, row in table.items() if user not in crossed]).reshape(-1, 4 + len(self._own))
            for key, table in rows.items()
        }
        everything = sum(row[0] for table in rows.values() for row in table.values())
        lost = everything - sum(float(table[:, 0].sum()) for table in tables.values())
        if self._own:
            tables = winsorised(tables, columns=range(4, 4 + len(self._own)), quantile=self._winsorise)
        pages = np.concatenate([table[:, 0] for table in tables.values()])
        most = float(np.quantile(pages, 0.95)) if len(pages) else math.inf
        nobody = {key: _pages_of(arm, window) for key, arm in arms.items()}
        sums_of_arm = {arm.name: arm_of(tables[key], most, nobody[key], self._metrics) for key, arm in arms.items()}
        return LoggedTest(name, sums_of_arm, len(crossed), lost / everything if everything else 0.0, tuple(notes))


def arm_of(
    rows: Table, most: float, nobody: Mapping[str, ArmSums] | None = None, metrics: Sequence[str] = tuple(METRICS)
) -> Arm:
    """An arm's sums. `rows` (users, 2 + metrics) are pages, clicks, satisfied clicks (nan: unknown), `before`, and the
    metrics of the product's own; users with over `most` pages are the busiest; `nobody` are pages without a user."""
    calm, without = rows[rows[:, 0] <= most], nobody or {}
    whole_of, steady_of = {}, {}
    for column, name in zip((1, 2, *range(4, rows.shape[1])), metrics, strict=True):
        before = 3 if column < 3 else None  # what users did before is about their clicks
        whole = without.get(name, ArmSums()) + _sums(rows, column, before)
        if not math.isnan(whole.value):  # one page without the figure makes the sum nan: the arm has no such metric
            whole_of[name] = whole
            steady_of[name] = _sums(calm, column, before)
    return Arm(whole_of, steady_of if len(rows) else {}, without["ctr"].pages if without else 0.0)


def _sums(rows: Table, column: int, before: int | None) -> ArmSums:
    return ArmSums.of(rows[:, column], rows[:, 0], None if before is None else rows[:, before])


def merged(name: str, spellings: Collection[str]) -> str | None:
    """What is said of an arm that the log spells in several ways."""
    others = sorted({*spellings} - {name})
    return f"arm {name} is spelt {', '.join(map(repr, others))} too: they are one arm" if others else None


def stray(name: str, users: int) -> str:
    """What is said of an arm that hardly anybody met."""
    return f"arm {name} is left out: {users} users are no arm but a slip of the log; name it by --share to keep it"


def _rows_of(arm: _ArmRows, window: tuple[float, float], width: int) -> dict[str, list[float]]:
    """Each user's sums over the days of the window."""
    total: dict[str, list[float]] = {}
    for (user, day), row in arm.users.items():
        if _within(day, window):
            into = total.setdefault(user, [0.0] * width)
            for place, value in enumerate(row):
                into[place] = (value or into[place]) if place == 3 else into[place] + value
    return total


def _pages_of(arm: _ArmRows, window: tuple[float, float]) -> dict[str, ArmSums]:
    total: dict[str, ArmSums] = {}
    for day, metrics in arm.nobody.items():
        if _within(day, window):
            for name, sums in metrics.items():
                total[name] = total.get(name, ArmSums()) + sums
    return total


def _unusable(row: Mapping[str, Any], values: Mapping[str, Any]) -> str | None:
    """Why a row cannot count: a count that is missing where its column is, or a list or bytes as a name."""
    for name in ("pages", "clicks"):
        if values[name] is None and any(column in row for column in _NAMES[name]):
            return f"no {name}"
    try:
        named(values["experiment"]), named(values["arm"]), identity(values["user"])
    except BadCell as problem:
        return f"experiment, arm or user: {problem}"
    return None


def _add_pages(into: dict[str, ArmSums], pages: float, values: Mapping[str, float]) -> None:
    """Pages without a user: one page with any number of clicks, or many pages of which `values` were clicked."""
    for name, value in values.items():
        # many pages have at most one click each here, so that the sum of squares is the sum
        squared = value**2 if pages == 1 else value
        sums = ArmSums(round(pages), pages, pages, value, squared, value)
        into[name] = into.get(name, ArmSums()) + sums


def shared_days(days: Mapping[str, Mapping[int, float]]) -> tuple[tuple[float, float], list[str]]:
    """The days that the arms share, and the arms that did not run beside the one that began last.

    An arm's time is that of its middle 98 % of pages. Where no arm has more than a few pages outside the shared time,
    all days are shared. `days` counts pages by arm and day; day 0 is an unknown one.
    """
    dated = {key: {day: count for day, count in counts.items() if day} for key, counts in days.items()}
    spans = {key: _span(counts) for key, counts in dated.items() if counts}
    if not spans:
        return (-math.inf, math.inf), []
    newest = max(spans.values())
    apart = [key for key, (first, last) in spans.items() if last < newest[0] or first > newest[1]]
    beside = [span for key, span in spans.items() if key not in apart]
    first, last = max(span[0] for span in beside), min(span[1] for span in beside)
    outside = [
        sum(count for day, count in dated[key].items() if not first <= day <= last) / sum(dated[key].values())
        for key in spans
        if key not in apart
    ]
    return ((first, last) if max(outside) > TAIL else (-math.inf, math.inf)), apart


def _span(counts: Mapping[int, float]) -> tuple[int, int]:
    days = sorted(counts)
    passed = np.cumsum([counts[day] for day in days]) / sum(counts.values())
    return days[int(np.searchsorted(passed, _EDGE))], days[int(np.searchsorted(passed, 1 - _EDGE))]


def _within(day: int, window: tuple[float, float]) -> bool:
    return day == 0 or window[0] <= day <= window[1]
