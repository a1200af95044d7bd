"""Cuts the largest totals of users, so that one order of a hundred thousand does not decide a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float64]


def winsorised(tables: Mapping[str, Table], *, columns: Sequence[int] | range, quantile: float) -> dict[str, Table]:
    """The arms' tables (users, columns) with each of `columns` cut at a `quantile` of its values above 0.

    The quantile is that of all arms together, so that the cut knows nothing of the arm (Kohavi, Tang & Xu 2020,
    "Trustworthy Online Controlled Experiments", ch. 22). Zeros are left out of it: most users buy nothing. Values below
    0, such as refunds, are cut the same way at the quantile of theirs. 1 cuts nothing.
    """
    cut = {key: table.copy() for key, table in tables.items()}
    for column in columns:
        values = np.concatenate([table[:, column] for table in tables.values()])
        for sign in (1.0, -1.0):
            above = sign * values[sign * values > 0]
            if len(above) and quantile < 1:
                most = float(np.quantile(above, quantile))
                for table in cut.values():
                    table[:, column] = sign * np.minimum(sign * table[:, column], most)
    return cut
