"""The table of docs/security.md: each of its cells is tried, from another machine."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from consumers.decode import Decoder
from flywheel.daemon.intake.records import judge
from flywheel.page.dashboard import ROUTES
from flywheel.serving.endpoints.access.roles import ROLES
from flywheel.serving.endpoints.app import create_app
from flywheel.serving.endpoints.control import ALLOWED
from flywheel.serving.services import Services
from flywheel.settings.load import Limits, Serving, Signals
from tests.serving.house import DOCUMENTS, MemoryBroker, MemoryOperations, MemoryTitles, make_engine

PAGE = Path(__file__).parents[4] / "docs" / "security.md"
SECRETS = {role: f"{role}-0123456789abcdef" for role in ROLES}
ROWS = re.findall(r"^\| `(GET|POST) (/\S*)` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)


def _app() -> Starlette:
    settings = Serving(host="0.0.0.0", tokens={role: f"{role} {secret}" for role, secret in SECRETS.items()})
    services = Services(
        search=make_engine(MemoryTitles(dict(DOCUMENTS)), None),
        operations=MemoryOperations(),
        publisher=MemoryBroker(),
        judge=judge(Decoder(Signals(), str, 1_048_576)),
        settings=settings,
        limits=Limits(),
        registry=CollectorRegistry(),
        ready=lambda: [],
        pages=ROUTES,
    )
    return create_app(services)


def _asked(app: Starlette, method: str, path: str, secret: str | None) -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("203.0.113.9", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://search.example") as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(("method", "path", "cells"), ROWS, ids=[f"{method} {path}" for method, path, _ in ROWS])
def test_each_cell_of_the_table_is_so(method: str, path: str, cells: str) -> None:
    """ "yes" is neither 401 nor 403; "no" is 401 without a token and 403 with one of another role."""
    app = _app()
    said = [cell.strip() for cell in cells.split("|")]
    assert set(said) <= {"yes", "no"}
    for role, cell in zip((None, *ROLES), said, strict=True):
        status = _asked(app, method, path, SECRETS[role] if role else None).status_code
        # without a body, a login and a statement are refused for that alone
        allowed = status not in (401, 403) or (path == "/login" and status == 415)
        assert allowed == (cell == "yes"), (role, status)
        if cell == "no":
            assert status == (403 if role else 401)


def test_every_path_of_the_api_stands_in_the_table() -> None:
    """A new endpoint is an error until somebody has decided who may use it."""
    named = {path for _, path, _ in ROWS}
    served = {getattr(route, "path", "") for route in _app().routes} - {
        "/v1/ops/{name}",
        "/openai/v1/models/{name}",
        "/logout",
    }
    assert served <= named
    assert {path.removeprefix("/v1/ops/") for path in named if "/ops/" in path} <= set(ALLOWED)
