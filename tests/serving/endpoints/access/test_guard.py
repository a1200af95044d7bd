"""Who may use the API: tokens, foreign pages and foreign names."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import httpx
import pytest

from flywheel.serving.endpoints.access.guard import check_binding, is_loopback
from flywheel.settings.load import ConfigError, Serving
from tests.serving.house import House, serve

TOKEN = "a-long-random-string-ünïcode"


@pytest.fixture
def guarded() -> Iterator[House]:
    with serve(settings=Serving(token=TOKEN)) as running:
        yield running


def bearer(token: str) -> dict[str, bytes]:
    return {"authorization": b"Bearer " + token.encode()}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "LOCALHOST."])
def test_loopback_needs_no_token(host: str) -> None:
    """Names and addresses of the machine itself are let through."""
    assert is_loopback(host)
    check_binding(Serving(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_everything_else_needs_a_token(host: str) -> None:
    """Any other address is refused with both ways out named, and served once there is a token."""
    for token in (None, "", "  "):
        with pytest.raises(ConfigError, match=r"FLYWHEEL__SERVING__TOKEN.*127\.0\.0\.1"):
            check_binding(Serving(host=host, token=token))
    check_binding(Serving(host=host, token=TOKEN))


@pytest.mark.parametrize("token", ["secret", "short-1234", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababababab"])
def test_tokens_that_can_be_guessed_stay_on_this_machine(token: str) -> None:
    """A short one, or one of few characters, is refused beyond loopback with the way to a good one."""
    check_binding(Serving(host="127.0.0.1", token=token))
    for settings in (Serving(host="0.0.0.0", token=token), Serving(host="::", tokens={"shop": f"collect {token}"})):
        with pytest.raises(ConfigError, match="openssl rand") as refused:
            check_binding(settings)
        assert token not in str(refused.value)


def test_every_path_of_the_api_asks_for_the_token(guarded: House) -> None:
    """Without it, or with a wrong one, each route under /v1/ answers 401 (or 429) and does nothing."""
    gets = ["models", "experiments", "triggers", "decisions", "status", "unknown"]
    posts = ["search", "embeddings", "sql", "promote", "rollback", "pause", "resume", "ubi/queries", "ubi/events"]
    for headers in (
        {},
        bearer("wrong"),
        {"authorization": "Basic x"},
        {"authorization": "Bearer"},
        bearer(TOKEN + "x"),
    ):
        answers = [guarded.http.get(f"/v1/{name}", headers=headers) for name in gets]
        answers += [guarded.http.post(f"/v1/{name}", headers=headers, json={}) for name in [*posts, "ops/cycle"]]
        assert {answer.status_code for answer in answers} <= {401, 429}
        assert answers[0].status_code == 429 or answers[0].headers["www-authenticate"] == "Bearer"
    assert guarded.operations.calls == []


def test_the_token_opens_the_api(guarded: House) -> None:
    """With the token, requests work whatever the scheme's case."""
    answer = guarded.http.post("/v1/search", json={"query": "sort"}, headers=bearer(TOKEN))
    assert answer.status_code == 200
    lower = {"authorization": b"bearer " + TOKEN.encode()}
    assert guarded.http.get("/v1/models", headers=lower).status_code == 200


def test_probes_and_the_empty_page_are_open(guarded: House) -> None:
    """Health, figures and the dashboard's shell, which holds no data, need no token."""
    assert {guarded.http.get(path).status_code for path in ("/", "/healthz", "/readyz", "/metrics")} == {200}


def test_tokens_are_never_logged(guarded: House, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a good nor a bad token shows up in any log record, errors included."""
    with caplog.at_level(logging.DEBUG):
        guarded.http.get("/v1/models", headers=bearer("wrong-token-value"))
        guarded.http.get("/v1/models", headers=bearer(TOKEN))
        guarded.http.post("/v1/resume", headers=bearer(TOKEN))
    assert "wrong-token-value" not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8642"},
        {"host": "localhost@evil.example"},
        {"host": "[::1"},
    ],
)
def test_hostile_pages_are_kept_out_where_there_is_no_token(house: House, headers: dict[str, str]) -> None:
    """Another origin, or another name for this machine, is refused before anything happens."""
    assert house.http.get("/v1/models", headers=headers).status_code == 403
    assert house.http.post("/v1/pause", headers=headers).status_code == 403
    assert house.operations.calls == []


def test_the_dashboards_own_requests_are_let_in(house: House) -> None:
    """A browser that was served the page may ask for data, by each of the machine's names."""
    assert (
        house.http.get("/v1/status", headers={"origin": house.url, "sec-fetch-site": "same-origin"}).status_code == 200
    )
    port = httpx.URL(house.url).port
    assert house.http.get("/v1/status", headers={"host": f"localhost:{port}"}).status_code == 200


def test_a_form_of_a_page_cannot_post(house: House) -> None:
    """What a form can send without a preflight is no JSON, and refused for that alone."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        body = {"content": b'{"version": "m2"}', "headers": {"content-type": kind}}
        for path in ("/v1/promote", "/v1/sql", "/v1/ubi/events", "/v1/search", "/v1/ops/cycle"):
            assert house.http.post(path, **body).status_code == 415


def test_a_request_without_a_host_is_refused(house: House) -> None:
    """HTTP/1.0 without a Host header does not slip past the check."""
    url = httpx.URL(house.url)
    with socket.create_connection((url.host, url.port or 0), 5) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert b" 403 " in connection.recv(200)


def test_answers_are_sealed(house: House) -> None:
    """Every answer, errors too, forbids sniffing and storing."""
    for answer in (house.http.get("/healthz"), house.http.get("/nowhere"), house.http.post("/v1/resume")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
