"""Takes personal data out of query texts: e-mail addresses, card and phone numbers, and tokens.

People paste into a search box what was meant for another. What stands here is replaced by its kind before the text is
stored; the search itself has been answered by then. It errs towards keeping: a number that may be an article's stays.
"""

from __future__ import annotations

import re

EMAIL, CARD, PHONE, TOKEN = "[email]", "[card]", "[phone]", "[token]"
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
# words alone, as most queries are, hold nothing that is looked for, unless an address is spelled out
_WORDS = re.compile(r"[^\W\d_ａ-ｚＡ-Ｚ]*(?:[ ,.?!:;'\"-]+[^\W\d_ａ-ｚＡ-Ｚ]*)*")
# nor does a text without any of these
_WORTH_A_LOOK = re.compile(
    r"[@＠]|%40|\bat\b|[(\[{<]\s*at\s*[)\]}>]|\d(?:\D{0,3}\d){6}|[^\s.,]{20}|AKIA|Bearer|[\u00ad\u200b-\u200d\u2060\ufeff]",
    re.IGNORECASE,
)
_AT = r"(?:[@＠]|%40|\s*[(\[{<]\s*(?:at|@)\s*[)\]}>]\s*)"
_DOT = r"(?:[.．]|\s*[(\[{<]\s*(?:dot|\.)\s*[)\]}>]\s*)"
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_EMAIL = re.compile(
    rf"(?:mailto:)?[\w.!#$%&'*+/=?^`{{|}}~-]{{1,64}}{_AT}(?:{_LABEL}{_DOT}){{1,8}}[^\W\d_]{{2,24}}\b", re.IGNORECASE
)
# "jane at example dot com": both words spelled out, so that a sentence with "at" is none
_SPELLED = re.compile(
    r"[\w.+-]{1,64}\s+at\s+(?:[\w-]{1,63}\s+dot\s+){1,4}(?:com|org|net|edu|gov|io|de|uk|fr|info|co|eu|ch|at)\b",
    re.IGNORECASE,
)
_GAP = "[\\s.\\-–\u00a0]{0,2}"
_CARD = re.compile(
    # in one piece, in groups of four, or in American Express's of four, six and five
    rf"(?<![\w.,-])(?:\d{{4}}(?:{_GAP}\d{{4}}){{3}}(?:{_GAP}\d{{3}})?|\d{{4}}{_GAP}\d{{6}}{_GAP}\d{{4,5}})(?!\w)"
)
_SEPARATOR = r"[\s.\-–/()\u00a0]{0,3}"
_PHONE = re.compile(
    # with a country: +49 171 1234567, 0049..., +1 (555) 123-4567
    rf"(?<![\w./\-])(?:(?:[+＋]|00)\s?[1-9](?:{_SEPARATOR}\d){{6,13}}"
    # North American, with a separator or brackets: 555-123-4567, (555) 123 4567
    r"|\(\d{3}\)\s?\d{3}[\s.\-–]?\d{4}|[2-9]\d{2}[.\-–\s]\d{3}[.\-–\s]\d{4}"
    # national with a leading zero: 0171 1234567, 030/1234567, 01 23 45 67 89
    rf"|\(?0[1-9]\d{{0,4}}\)?[\s./\-–]\d(?:{_SEPARATOR}\d){{5,9}}"
    r"|0[1-9]\d{8,10})(?![\w])"
)
_DATE = re.compile(r"\d{1,4}[./\-–]\d{1,2}[./\-–]\d{2,4}")
_TOKEN = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web tokens
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(?:sk|pk|rk)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?[\w-]{16,}"
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abeoprs]-[\w-]{10,}|\bAIza[\w-]{30,}"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{32,}\b"
    # long, with small and large letters and digits: random, as no word or address of a page is
    r"|(?<![\w/.-])(?=[\w+/=-]*[a-z])(?=[\w+/=-]*[A-Z])(?=[\w+/=-]*\d[\w+/=-]*\d[\w+/=-]*\d)[A-Za-z0-9+/_-]{32,}={0,2}(?![\w])"
    r"|(?<=\bBearer )\S{12,}",
    re.IGNORECASE | re.ASCII,
)
_MIXED = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}", re.ASCII)


def redacted(text: str) -> str:
    """The text with each piece of personal data replaced by its kind in brackets."""
    if (_WORDS.fullmatch(text) and " dot " not in text.lower()) or _WORTH_A_LOOK.search(text) is None:
        return text
    text = _INVISIBLE.sub("", text)
    text = _EMAIL.sub(EMAIL, text)
    text = _SPELLED.sub(EMAIL, text)
    text = _TOKEN.sub(_token, text)
    text = _CARD.sub(_card, text)
    return _PHONE.sub(_phone, text)


def _token(found: re.Match[str]) -> str:
    piece = found[0]
    if _MIXED.fullmatch(piece) and not (any(c.islower() for c in piece) and any(c.isupper() for c in piece)):
        # the flag for any case lets words joined by hyphens through the last pattern but one
        hexadecimal = re.fullmatch(r"[0-9a-fA-F-]{32,}", piece)
        return TOKEN if hexadecimal or piece[:4].lower() in ("akia", "asia") or "_" in piece[:8] else piece
    return TOKEN


def _card(found: re.Match[str]) -> str:
    digits = [int(character) for character in found[0] if character.isdigit()]
    # payment cards begin with 2 to 6 (ISO/IEC 7812-1)
    return CARD if 2 <= digits[0] <= 6 and len(set(digits)) > 1 and _luhn(digits) else found[0]


def _luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B: the check digit of payment cards."""
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _phone(found: re.Match[str]) -> str:
    if _DATE.match(found[0]):
        return found[0]
    digits = [character for character in found[0] if character.isdigit()]
    return PHONE if 7 <= len(digits) <= 15 and len(set(digits)) > 2 else found[0]
