"""Recent ids: bounded by time and number, provisional until kept."""

from __future__ import annotations

from flywheel.store.feedback.recent import RecentIds


def test_what_is_dropped_is_new_again_and_what_is_kept_is_not() -> None:
    """A failed transaction takes its claims back."""
    ids = RecentIds(window_ms=100, limit=10)
    assert ids.claim("a", 0)
    ids.drop()
    assert ids.claim("a", 0)
    ids.keep()
    assert not ids.claim("a", 100)
    assert ids.claim("a", 101)


def test_the_number_of_ids_is_bounded_and_the_oldest_go_first() -> None:
    """However many come, at most a quarter more than the limit are held."""
    ids = RecentIds(window_ms=100, limit=100)
    for number in range(1000):
        ids.claim(str(number), 0)
        ids.keep()
        assert len(ids) <= 125
    assert not ids.claim("999", 0)
    assert ids.claim("0", 0)
