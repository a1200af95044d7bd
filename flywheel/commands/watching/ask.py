"""Answers of the daemon, or of the home as it was left, without loading what learning and searching need.

Whoever has no daemon to ask and no answers that were left is sent to the operations themselves.
"""

from __future__ import annotations

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flywheel.commands.shell import Shell
from flywheel.settings.choices import FILE_NAME
from flywheel.settings.home import Home

_SECONDS = 30.0
_TOKEN = "FLYWHEEL__SERVING__TOKEN"  # noqa: S105 - the name of a setting


def ask(shell: Shell, name: str) -> Any:
    """The answer of the operation `name`, which takes no arguments.

    Raises:
        click.ClickException: there is no home; and whatever the operation raises.
    """
    home = Home(shell.home)
    daemon = home.daemon()
    if daemon is not None:
        answer = _over_http(f"{daemon['url']}/v1/{name}", _token(shell.home, shell.environ))
        if answer is not None:
            return answer
    elif home.exists and (left := home.left()) is not None and name in left:
        return left[name]
    with shell.operations() as operations:
        return getattr(operations, name)()


def _over_http(url: str, token: str | None) -> Any:
    """What the daemon answers, or None where it refuses or is gone: the whole client says that in words."""
    request = urllib.request.Request(url)  # noqa: S310 - the address is from the home's own file
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            return json.loads(response.read())
    except (OSError, ValueError):
        return None


def _token(home: Path, environ: Mapping[str, str]) -> str | None:
    """The one setting that asking needs; whether the settings are right is asked by who starts the daemon."""
    if environ.get(_TOKEN):
        return environ[_TOKEN]
    try:
        settings = tomllib.loads((home / FILE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    token = settings.get("serving", {}).get("token")
    return token if isinstance(token, str) else None
