"""What each role may do, how tokens change, how the page signs in, and who is slowed down."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from flywheel.serving.endpoints.access.login import cookies, signed_in
from flywheel.serving.endpoints.access.rates import Buckets
from flywheel.serving.endpoints.access.roles import ROLES, role_for
from flywheel.serving.endpoints.access.tokens import Caller, Tokens, first_of
from flywheel.settings.load import ConfigError, Limits, Serving
from tests.serving.house import House, serve

OWNER = "owner-0123456789abcdef"
SECRETS = {role: f"{role}-0123456789abcdef" for role in ROLES}
SETTINGS = Serving(token=OWNER, tokens={f"the-{role}": f"{role} {secret}" for role, secret in SECRETS.items()})


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with serve(settings=SETTINGS) as running:
        yield running


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_token_file_is_followed_while_it_changes(tmp_path: Path) -> None:
    """A new token is good, and one that is gone is not, without a restart; a broken file leaves all as it was."""
    clock = [0.0]
    file = tmp_path / "tokens"
    file.write_text("# who may what\nshop collect,search first-0123456789\n")
    tokens = Tokens(Serving(tokens_file=file), seconds=lambda: clock[0])
    assert tokens.of(b"first-0123456789") == Caller("shop", frozenset({"collect", "search"}))
    file.write_text("shop collect,search first-0123456789\nshop collect,search second-0123456789\n")
    clock[0] += 2
    assert tokens.of(b"second-0123456789") == tokens.of(b"first-0123456789")
    file.write_text("shop collect second-0123456789\n")
    clock[0] += 2
    assert tokens.of(b"first-0123456789") is None
    for broken in ("shop nothing second-0123456789\n", "shop collect\n"):
        file.write_text(broken)
        os.utime(file, ns=(1, time.time_ns()))
        clock[0] += 2
        assert tokens.of(b"second-0123456789") == Caller("shop", frozenset({"collect"}))


@pytest.mark.parametrize("value", ["", "collect", "collect,root abc", "abc", " ,collect abc"])
def test_a_token_that_cannot_be_read_is_named_and_not_shown(value: str) -> None:
    """The error says which token and how a line looks, and repeats nothing of it."""
    with pytest.raises(ConfigError, match=r"'shop'.*NAME ROLE") as refused:
        Tokens(Serving(tokens={"shop": value}))
    assert "abc" not in str(refused.value)


def test_our_own_commands_find_a_token_that_may_operate() -> None:
    """`serving.token` first, else one of the named ones with the role."""
    assert first_of(SETTINGS, "operate") == OWNER
    assert first_of(Serving(tokens={"a": "read x1", "b": "operate x2"}), "operate") == "x2"
    assert first_of(Serving(), "operate") is None


def test_what_is_not_listed_needs_the_strongest_role() -> None:
    """A path that nobody has thought of is for operators, unless it only reads."""
    assert role_for("POST", "/v1/something-new") == "operate"
    assert role_for("POST", "/v1/ops/something-new") == "operate"
    assert role_for("DELETE", "/v1/models") == "operate"
    assert role_for("GET", "/v1/something-new") == "read"


def test_a_beacon_may_collect_and_nothing_else(house: House) -> None:
    """Without a header, with text/plain and the token in the address, events arrive; no other path takes it so."""
    token = f"?token={SECRETS['collect']}"
    plain = {"content": b'{"action_name": "click", "query_id": "q"}', "headers": {"content-type": "text/plain"}}
    assert house.http.post(f"/v1/ubi/events{token}", **plain).status_code == 202
    assert house.http.post("/v1/ubi/events", **plain).status_code == 401
    assert house.http.get(f"/v1/status?token={OWNER}").status_code == 401
    assert house.http.post(f"/v1/pause?token={OWNER}").status_code == 401


def test_pages_of_listed_origins_may_collect() -> None:
    """Their preflight and their answer name them; other origins and other paths get nothing."""
    token = bearer(SECRETS["collect"])
    settings = Serving(tokens={"web": f"collect {SECRETS['collect']}"}, cors_origins=("https://shop.example",))
    with serve(settings=settings) as house:
        ours, other = {"origin": "https://shop.example"}, {"origin": "https://evil.example"}
        asked = house.http.options("/v1/ubi/events", headers=ours)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "https://shop.example")
        assert "authorization" in asked.headers["access-control-allow-headers"]
        sent = house.http.post("/v1/ubi/events", json={"action_name": "x", "query_id": "q"}, headers=ours | token)
        assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (202, "https://shop.example")
        assert "access-control-allow-origin" not in house.http.options("/v1/ubi/events", headers=other).headers
        assert "access-control-allow-origin" not in house.http.options("/v1/search", headers=ours).headers
        assert house.http.post("/v1/ubi/events", json={"action_name": "x"}, headers=ours).status_code == 401


def test_the_page_signs_in_with_a_cookie_of_the_tokens_role(house: House) -> None:
    """The cookie reads as its token does, is hidden from scripts, and changes something only with the form's value."""
    with httpx.Client(base_url=house.url, trust_env=False) as browser:
        answer = browser.post("/login", json={"token": SECRETS["operate"]})
        assert answer.json()["roles"] == ["operate", "read"]
        told = answer.headers.get_list("set-cookie")[0]
        assert all(part in told for part in ("HttpOnly", "SameSite=strict", "Max-Age=28800", "Path=/"))
        assert browser.get("/v1/status").status_code == 200
        assert browser.post("/v1/search", json={"query": "sort"}).status_code == 403
        refused = browser.post("/v1/pause")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "no_form_value")
        assert browser.post("/v1/pause", headers={"x-flywheel-form": "x" * 64}).status_code == 403
        assert browser.post("/v1/pause", headers={"x-flywheel-form": answer.json()["form"]}).status_code == 200
        browser.post("/logout")
        assert browser.get("/v1/status").status_code == 401


def test_a_form_signs_in_and_comes_back_to_the_page(house: House) -> None:
    """A plain HTML form works without a script."""
    with httpx.Client(base_url=house.url, trust_env=False) as browser:
        answer = browser.post("/login", data={"token": SECRETS["read"]})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert browser.get("/v1/status").status_code == 200


def test_a_cookie_ends_with_its_time_and_with_its_token() -> None:
    """After eight hours, after a change of the token, or with one character changed, it is nobody's."""
    tokens = Tokens(SETTINGS)
    value, _ = cookies(tokens.now()[0], 1_000.0)

    def who(tokens: Tokens, cookie: str, now: float) -> object:
        return signed_in(tokens, "GET", Headers({"cookie": f"flywheel={cookie}"}), now)

    assert who(tokens, value, 1_000.0 + 8 * 3_600 - 1) == tokens.now()[0].caller
    assert who(tokens, value, 1_000.0 + 8 * 3_600 + 1) is None
    assert who(Tokens(Serving(token=OWNER + "x")), value, 1_001.0) is None
    for broken in (value[:-1] + ("0" if value[-1] != "0" else "1"), "", "...", "serving.token.x.y", "a.²." + "0" * 64):
        assert who(tokens, broken, 1_001.0) is None


def test_who_acts_is_written_down_by_the_tokens_name(house: House) -> None:
    """The decision names the token; what the client calls itself stands beside it, and does not replace it."""
    house.operations.calls.clear()
    house.http.post("/v1/promote", json={"version": "m2"}, headers=bearer(SECRETS["operate"]))
    house.http.post("/v1/ops/rollback", json={"reason": "x", "actor": "cli:eve"}, headers=bearer(OWNER))
    assert [call["actor"] for _, call in house.operations.calls] == ["the-operate", "serving.token (cli:eve)"]


def test_wrong_tokens_are_slowed_down_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """After ten, whoever guesses is told to wait and not whether it guessed right; a known token goes on."""
    with serve(settings=SETTINGS) as house, caplog.at_level(logging.WARNING):
        assert house.http.get("/v1/status", headers=bearer(OWNER)).status_code == 200
        answers = [house.http.get("/v1/status", headers=bearer(f"guess-{n}")) for n in range(12)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert house.http.get("/v1/status", headers=bearer(SECRETS["read"])).status_code == 429
        assert house.http.get("/v1/status", headers=bearer(OWNER)).status_code == 200
        assert house.http.post("/login", json={"token": OWNER}).status_code == 429
    assert caplog.text.count("a wrong token from 127.0.0.1") == 10
    assert "guess-" not in caplog.text


def test_one_caller_has_so_many_requests_a_second() -> None:
    """Beyond them it gets 429 with the time to come back; probes of orchestrators are never refused."""
    with serve(limits=Limits(requests_per_second=5)) as house:
        statuses = [house.http.get("/v1/models").status_code for _ in range(30)]
        assert statuses[:10] == [200] * 10
        assert 429 in statuses
        assert "retry-after" in house.http.get("/v1/models").headers
        assert {house.http.get("/healthz").status_code for _ in range(20)} == {200}
    with serve(settings=SETTINGS, limits=Limits(requests_per_second=5)) as house:
        assert house.http.get("/v1/models", headers=bearer(OWNER)).status_code == 200


def test_buckets_refill_and_are_bounded_in_number() -> None:
    """A bucket gives its burst, then what the rate allows; many callers leave no more than so many buckets."""
    clock = [0.0]
    buckets = Buckets(2.0, 4.0, lambda: clock[0])
    assert [buckets.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    clock[0] += 0.5
    assert (buckets.take("a"), buckets.take("a"), buckets.take("b")) == (0.0, 0.5, 0.0)
    for number in range(30_000):
        buckets.take(str(number))
    assert len(buckets._kept) == 10_000
