"""Finds values in messages that could not be read, however their bytes spell them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

# a JSON string with its escapes; the last one of a message that was cut may lack its end
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?$)', re.DOTALL)
# what stands between the signs of JSON, of an address or of a sentence
_WORD = re.compile(r"[^\s\"'{}\[\],:;=&?<>()]+")
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|%[0-9a-fA-F]{2}")
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")


def mentions(payload: bytes, wanted: Callable[[str], bool]) -> bool:
    """Whether any value in these bytes is `wanted`. A value is whole: "RAWUSER-1" is not in "RAWUSER-10"."""
    return any(wanted(value) for value in _values(payload))


def _values(payload: bytes) -> Iterator[str]:
    seen: set[str] = set()
    for encoding in _ENCODINGS:
        text = payload.decode(encoding, "ignore")
        for value in (*_strings(text), *_WORD.findall(text), text.strip()):
            if value not in seen:
                seen.add(value)
                yield value
                if "\\" in value or "%" in value:
                    yield _ESCAPE.sub(_unescaped, value)


def _strings(text: str) -> Iterator[str]:
    for found in _STRING.finditer(text):
        try:
            yield str(json.loads(f'"{found[1]}"', strict=False))
        except ValueError:
            yield found[1]
        # the bytes may hold JSON within JSON
        if "\\" in found[1]:
            yield from _WORD.findall(_ESCAPE.sub(_unescaped, found[1].replace('\\"', " ")))


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[0].lstrip("\\ux%"), 16))
