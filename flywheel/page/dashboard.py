"""The page at `/`: one HTML file that gets everything it shows from the API. It may load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def _content() -> tuple[str, str]:
    """The page, and a policy that allows its own script and style by hash, and nothing else."""
    html = files("flywheel.page").joinpath("dashboard.html").read_text("utf-8")
    hashes = {
        kind: base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for kind, body in _INLINE.findall(html)
    }
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return html, policy


async def page(_: Request) -> HTMLResponse:
    """The dashboard; it holds no data of its own, so it needs no token."""
    html, policy = _content()
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "X-Frame-Options": "DENY"})


ROUTES = (Route("/", page, methods=["GET"]),)
