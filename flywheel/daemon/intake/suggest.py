"""Guesses what foreign action names mean, for people to look at: no record is read by a guess."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flywheel.events import Kind

# the first that fits; words of a name, as shops and search pages call them
_WORDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    (
        Kind.PURCHASE,
        frozenset({"purchase", "purchased", "buy", "bought", "order", "ordered", "checkout"}),
    ),
    (Kind.ADD_TO_CART, frozenset({"cart", "basket", "bag"})),
    (Kind.THUMBS_DOWN, frozenset({"dislike", "downvote", "down", "declined", "reject", "rejected", "irrelevant"})),
    (Kind.THUMBS_UP, frozenset({"like", "upvote", "up", "favorite", "favourite", "bookmark", "save", "helpful"})),
    (Kind.DWELL, frozenset({"dwell", "read", "duration"})),
    (Kind.CLICK, frozenset({"click", "clicked", "clickthrough", "open", "opened", "select", "selected", "tap"})),
    (Kind.IMPRESSION, frozenset({"impression", "impressions", "shown", "displayed", "viewed"})),
)
_AGAINST = frozenset({"remove", "removed", "filter", "sort", "search"})
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def suggest(action_names: Mapping[str, int]) -> str | None:
    """A line for `[signals]` that maps those of the names that look familiar; None where none does."""
    guessed = {name: kind for name in action_names if (kind := _kind(name)) is not None}
    if not guessed:
        return None
    pairs = ", ".join(f'{_quoted(name)} = "{kind.value}"' for name, kind in guessed.items())
    return f"action_names = {{{pairs}}}"


def _kind(name: str) -> Kind | None:
    words = {word.lower() for word in _PARTS.findall(name)}
    if words & _AGAINST:
        return None
    return next((kind for kind, known in _WORDS if words & known), None)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
