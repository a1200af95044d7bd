"""Changes one setting in flywheel.toml and leaves every other line, comments too, as people wrote it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.settings.choices import FILE_NAME
from flywheel.settings.home import write_atomically
from flywheel.settings.load import ENV_PREFIX, Config, ConfigError, from_text, load, parse, sections, to_toml

SECRETS = ("token", "password", "secret")
# read at each check; everything else takes effect with the next start
LIVE = frozenset(
    f"retrain.{key}"
    for key in ("min_new_pairs", "satisfied_ctr_drop", "drift", "golden_drop", "cooldown_minutes", "max_runs_per_day",
                "enabled")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changed:
    """A setting before and after, and whether a running daemon goes by it at once."""

    key: str
    before: Any
    after: Any
    live: bool
    config: Config


def set_value(home: Path, environ: Mapping[str, str], key: str, text: str) -> Changed:
    """Write `key` (section.name) with the value that `text` stands for, once the whole file with it is valid.

    Raises:
        ConfigError: no such key, a value that it cannot have, or a variable of the environment stands above the file.
    """
    section, _, name = key.partition(".")
    known = dict(sections())
    if section not in known or name not in known[section].model_fields:
        parse({section: {name: None}} if name else {section: None})  # raises, and names the nearest key
        raise ConfigError(f"{key} is no setting; `flywheel config show` lists them")
    variable = f"{ENV_PREFIX}{section}__{name}".upper()
    if variable in environ:
        raise ConfigError(f"{variable} in the environment stands above the file; change it there")
    path = home / FILE_NAME
    before = load(home, environ)
    old = path.read_text("utf-8") if path.exists() else ""
    new = _changed(old, section, name, to_toml(from_text(section, name, text)))
    parse(tomllib.loads(new), source=f"{key} = {text}")
    write_atomically(path, new.encode())
    after = load(home, environ)
    was, now = (getattr(getattr(config, section), name) for config in (before, after))
    return Changed(key, was, now, live=key in LIVE, config=after)


def _changed(text: str, section: str, name: str, value: str) -> str:
    """The file with one line changed: the key's own, else its commented default, else a new one below its table."""
    lines, line = text.splitlines(), f"{name} = {value}"
    start = next((number for number, found in enumerate(lines) if found.strip() == f"[{section}]"), None)
    if start is None:
        return "\n".join([*lines, "", f"[{section}]", line, ""]).lstrip("\n")
    end = next((n for n in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
    for pattern in (rf"\s*{name}\s*=", rf"\s*#\s*{name}\s*="):
        for number in range(start + 1, end):
            if re.match(pattern, lines[number]):
                lines[number] = line
                return "\n".join(lines) + "\n"
    return "\n".join([*lines[: start + 1], line, *lines[start + 1 :]]) + "\n"


def shown(home: Path, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every setting as it holds: `{key, value, from, meaning, live}`; secrets are not shown.

    Raises:
        ConfigError: the settings cannot be used.
    """
    config, path = load(home, environ), home / FILE_NAME
    file = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    rows = []
    for section, model in sections():
        for name, info in model.model_fields.items():
            value = getattr(getattr(config, section), name)
            hidden = value is not None and any(word in name for word in SECRETS)
            variable = f"{ENV_PREFIX}{section}__{name}".upper()
            source = "environment" if variable in environ else "file" if name in file.get(section, {}) else "default"
            rows.append(
                {
                    "key": f"{section}.{name}",
                    "value": "(set)" if hidden else value,
                    "from": source,
                    "meaning": info.description,
                    "live": f"{section}.{name}" in LIVE,
                }
            )
    return rows
