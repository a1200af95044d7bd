"""All SQL of Flywheel: feedback, documents, pairs, models, decisions and verdicts in one DuckDB file."""

from flywheel.store.schema.errors import SqlRefused, StoreError, StoreFull, StoreLocked
from flywheel.store.store import Store

__all__ = ["SqlRefused", "Store", "StoreError", "StoreFull", "StoreLocked"]
