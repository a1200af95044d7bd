"""A cell means the same whatever file it stands in, and nothing becomes text by accident."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.files import arrow, cells
from flywheel.files.cells import BadCell, UnreadableCell

_NS = 1_772_323_200_123_456_789
_MOMENT = "2026-03-01T00:00:00.123456+00:00"


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (pa.array([b"p1", None]), ["p1", None]),
        (pa.array([b"p1", b"\xff"], pa.large_binary()), ["p1", UnreadableCell("bytes that are no UTF-8")]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        (pa.array([1.0, float("nan"), float("inf")]), [1.0, None, UnreadableCell("an infinity")]),
        (pa.array([_NS, None], pa.timestamp("ns")), [_MOMENT, None]),
        (pa.array([_NS // 1000], pa.timestamp("us", "Nowhere/At All")), [_MOMENT]),
        (pa.array([2**62], pa.timestamp("s")), [UnreadableCell("a moment before year 1 or after year 9999")]),
        (pa.array([date(2026, 3, 1)]), ["2026-03-01"]),
        (pa.array([-1_000_000], pa.date32()), [UnreadableCell("a date32[day] that no calendar has")]),
        (pa.array([1_000_000_001], pa.time64("ns")), ["00:00:01"]),
        (pa.array([1_500], pa.duration("ms")), [1.5]),
        (pa.array([Decimal("12.00"), Decimal("1.50")]), [12, 1.5]),
        (pa.array([{"a": [b"x"], "b": float("nan")}, None]), [{"a": ["x"], "b": None}, None]),
        (pa.array([[("k", b"v")], None], pa.map_(pa.string(), pa.binary())), [{"k": "v"}, None]),
        (pa.array([[1, None], None]), [[1, None], None]),
        (pa.array([b"0123456789abcdef"], pa.uuid()), ["30313233-3435-3637-3839-616263646566"]),
        (pa.nulls(1), [None]),
    ],
)  # fmt: skip
def test_arrow_types_read_as_json_would_have_them(array: pa.Array, found: list[Any]) -> None:
    """Bytes are text, moments are ISO 8601 in UTC, NaN is nothing, and what has no form says so in its own cell."""
    assert arrow.column(array) == found


def test_a_time_in_nanoseconds_needs_no_pandas() -> None:
    """Arrow turns to pandas for it, which is no dependency: here pandas cannot be imported."""
    code = (
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'pandas': raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "import pyarrow as pa, json\n"
        "from flywheel.files import arrow\n"
        f"print(json.dumps(arrow.column(pa.array([{_NS}], pa.timestamp('ns', 'UTC')))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [_MOMENT]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None), ("", None), (float("nan"), None), ("12345", "12345"), (12345, "12345"), (12345.0, "12345"),
        (Decimal("12345.00"), "12345"), (1.5, "1.5"), ("grün", "grün"), (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_text_is_one_for_one_id(value: Any, text: str | None) -> None:
    """12345 and 12345.0 are one id, and a missing number is no id called nan."""
    assert cells.text(value) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["A", "B"], "a list"), ({"en": "one"}, "an object"), (True, "true or false"), (float("inf"), "inf"),
        ("cut \ud83d", "half a character"), ("gr\udcf6n", "byte 0xf6 is not UTF-8"),
        pytest.param(10**5000, "thousands of digits", id="huge"),
        (UnreadableCell("bytes that are no UTF-8"), "bytes that are no UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_text_says_what_it_is(value: Any, said: str) -> None:
    """Lists, objects and lost bytes never become text; the reason can be printed."""
    with pytest.raises(BadCell, match=said) as refused:
        cells.text(value)
    str(refused.value).encode()


@pytest.mark.parametrize(
    ("value", "number"),
    [("0,5", 0.5), ("-3", -3.0), (" 4 ", 4.0), ("TRUE", 1.0), (False, 0.0), ("", None), (float("nan"), None), (2, 2.0)],
)
def test_numbers_may_have_a_decimal_comma(value: Any, number: float | None) -> None:
    """Numbers as spreadsheets of several countries write them."""
    assert cells.number(value) == number


@pytest.mark.parametrize("value", ["1.234,5", "1,234.5", "high", "inf", [1], {"rating": 4}, float("inf")])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """A number that two countries read differently is none."""
    with pytest.raises(BadCell):
        cells.number(value)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.text(alphabet=st.characters())


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_cell_is_text_or_refused(value: Any) -> None:
    """Whatever a cell holds: text that UTF-8 can hold, nothing, or a reason."""
    try:
        found = cells.text(value)
    except BadCell:
        return
    assert found is None or found.encode().decode() == found
    assert not isinstance(value, bool | list | dict | bytes)
