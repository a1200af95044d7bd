"""The page is looked at through the API that serves it."""

from __future__ import annotations

from tests.serving.conftest import house

__all__ = ["house"]
