"""Personal data in query texts: found in many spellings, and not found where there is none."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from consumers.decode import Decoder
from consumers.redact import CARD, EMAIL, PHONE, TOKEN, redacted
from flywheel.settings.load import Signals

DATA = Path(__file__).parents[3] / "shared" / "data"
FOUND = {
    EMAIL: """jane.doe@example.com|jane(at)example.com|jane [at] example [dot] com|jane at example dot com
        JANE＠EXAMPLE.COM|jane%40example.com|müller@bücher.de|a+b@sub.domain.co.uk|mailto:x@y.org|j\u200bane@exam\u200bple.com""",
    CARD: """4111 1111 1111 1111|4111-1111-1111-1111|4111111111111111|5500.0000.0000.0004|378282246310005
        3782 822463 10005|４１１１１１１１１１１１１１１１""",
    PHONE: """+49 171 1234567|+1 (555) 123-4567|0049 171 1234567|555-123-4567|(555) 123 4567|0171 1234567|030/1234567
        01 23 45 67 89|01712345678|＋49 171 1234567|212.555.0123""",
    TOKEN: """eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abc-def_123|AKIAIOSFODNN7EXAMPLE|sk-proj-abcdefghijklmnop1234
        ghp_abcdefghijklmnopqrstuvwxyz0123456789|xoxb-123456789012-abcdefghij|d41d8cd98f00b204e9800998ecf8427e
        550e8400-e29b-41d4-a716-446655440000|QWxhZGRpbjpvcGVuIHNlc2FtZQ0123456789abcd""",
}
KEPT = """how do I copy a list|iso 9001 2015|1914-1918 war|2019 2020 2021 budget|isbn 978-3-16-148410-0|9783161484100
    ip 192.168.0.1|python 3.11.7|price 1000000|0.7 mach 1 2 3 4 5 6|reynolds numbers 100000 to 1000000|look at this
    section 12.4.5.6|pneumonoultramicroscopicsilicovolcanoconiosis|collections.abc.MutableMapping.setdefault
    part no 00012345|10000 20000 30000 40000|@dataclass decorator|numpy @ operator|user@localhost|02/15/2012
    2024-01-01 2024-12-31|1-800|12345678|https://docs.python.org/3/library/stdtypes.html
    EN 60601-1-2 2015|meet at noon"""


def _pieces(text: str) -> list[str]:
    return [piece.strip() for line in text.splitlines() for piece in line.split("|")]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in _pieces(texts)])
def test_each_spelling_is_replaced_by_its_kind(kind: str, text: str) -> None:
    """Alone and within a question, and nothing of it is left."""
    assert redacted(text) == kind
    assert redacted(f"where is {text} now") == f"where is {kind} now"


@pytest.mark.parametrize("text", _pieces(KEPT))
def test_what_only_looks_like_it_is_kept(text: str) -> None:
    """Dates, norms, versions, article numbers, code and long words stay as they were typed."""
    assert redacted(text) == text


@pytest.mark.shared
def test_real_queries_raise_no_false_alarm() -> None:
    """Of all that people asked in the collections, over 20,000 queries, at most one in 10,000 is touched."""
    texts = []
    for path in [*DATA.glob("*/queries.jsonl.gz"), *DATA.glob("ubi/*.ndjson.gz"), *DATA.glob("real/*/pages.jsonl.gz")]:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                texts += [row[name] for name in ("text", "user_query", "query") if isinstance(row.get(name), str)][:1]
    if not texts:
        pytest.skip("the collections are not here")
    assert len(texts) > 20_000
    assert len([text for text in texts if redacted(text) != text]) <= len(texts) / 10_000


@pytest.mark.parametrize("piece", ["a@", "a at ", "1 ", "(", "a.", "+49", "0 ", "eyJ", "é", "[at]", "dot ", "\u200b"])
def test_no_text_takes_long(piece: str) -> None:
    """The longest text that is stored, made to be slow, is done within a moment."""
    began = time.perf_counter()
    redacted((piece * 4_096)[:4_096])
    redacted((piece * 4_096)[:4_095] + "@")
    assert time.perf_counter() - began < 1


def test_a_setting_keeps_texts_as_they_are() -> None:
    """By default the stored text has lost it; with `signals.redact = false` it has not."""
    page = b'{"query_id": "q", "user_query": "mail jane@example.com", "timestamp": 1700000000000}'
    assert Decoder(Signals(), str, 1_000).query(page).text == "mail [email]"
    assert Decoder(Signals(redact=False), str, 1_000).query(page).text == "mail jane@example.com"
