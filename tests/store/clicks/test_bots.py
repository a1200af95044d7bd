"""Who is left out of the evidence, and whose documents are suspected."""

from __future__ import annotations

from collections import defaultdict

from flywheel.events import Kind
from tests.store.clicks.test_evidence import DAY_MS, PLAIN, T0, Shop, shop

__all__ = ["shop"]


def test_bots_are_left_out_and_named(shop: Shop) -> None:
    """Who clicks everything, asks at an impossible rate or always clicks one document is excluded; people are not."""
    for number in range(8):
        shop.click(shop.page(f"query {number}", "abcdef", user="clicker"), "abcdef")
        shop.click(shop.page(f"query {number}", "abcdef", user="colluder"), "d")
        shop.click(shop.page(f"query {number}", "abcdef", user="person"), "abcdef"[number % 6])
    for number in range(250):
        shop.page(f"query {number % 8}", "abcdef", user="crawler", at=T0 + number)
    found = shop.collect()
    reasons = {user.user_key: user.reason for user in found.excluded}
    assert set(reasons) == {"clicker", "colluder", "crawler"}
    assert reasons["clicker"] == "clicks everything"
    assert "one document" in reasons["colluder"]
    assert "250 pages in a minute" in reasons["crawler"]
    assert found.evidence.impressions.sum() == 8 * 6


def test_a_document_whose_clickers_click_nothing_else_is_suspected(shop: Shop) -> None:
    """Six people leave five pages alone and click one document; thirty click here and there, and it is no other's."""
    for person in range(30):
        for number in range(6):
            page = shop.page(f"query {number}", "abcdef", user=f"person {person}")
            if (person + number) % 2:
                shop.click(page, "abcdef"[(person + number) % 6])
    for person in range(6):
        for number in range(6):
            page = shop.page(f"query {number}", "abcdez", user=f"idle {person}")
            if number == person % 4:
                shop.click(page, "z")
    evidence = shop.collect().evidence
    assert evidence.idle is not None
    odds = dict(zip(evidence.documents, evidence.idle.tolist(), strict=True))
    assert odds.pop("z") > 4
    assert max(odds.values()) == 0
    held = shop.store.evidence.collect(T0 + DAY_MS, PLAIN, only_keys=["query 0"], served_by="v0").evidence
    assert held.idle is not None
    assert held.idle[held.documents.index("z")] == evidence.idle[evidence.documents.index("z")]


def test_never_dwelling_tells_only_where_dwell_is_measured(shop: Shop) -> None:
    """Nobody is excluded where no dwell is sent, nor where a whole app sends none; the one who lacks it alone is."""
    names, pages = [f"user {n}" for n in range(8)], defaultdict(list)
    for number in range(160):
        pages[names[number % 8]].append(shop.page(f"query {number}", "abcdef", user=names[number % 8], at=T0 + number))
    for sent in (names[2:], names[1:2]):
        for user in sent:
            for number, page in enumerate(pages[user]):
                shop.event(Kind.DWELL, page, "abcdef"[number % 6], dwell=9_000)
        if sent == names[2:]:  # two of eight are silent: an app without dwell
            for user in names[:2]:
                for number, page in enumerate(pages[user]):
                    shop.click(page, "abcdef"[number % 6])
            assert shop.collect().excluded == ()
    assert [(user.user_key, user.reason) for user in shop.collect().excluded] == [("user 0", "never dwells")]


def test_without_any_dwell_nobody_is_excluded_for_lacking_it(shop: Shop) -> None:
    """Where products send clicks alone, clicks alone are enough."""
    for number in range(25):
        shop.click(shop.page(f"query {number}", "abcdef", user="reader"), "abcdef"[number % 6])
    assert shop.collect().excluded == ()
