"""Reads the settings: one `flywheel.toml`, overridden by the environment; an error names the nearest valid key.

Every field has a default and a description; `flywheel init` writes them all, commented. Nothing else reads settings.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from flywheel.settings.sections import (
    Analytics,
    Exploration,
    Kafka,
    Keeping,
    Limits,
    Promotion,
    Retrain,
    Section,
    Serving,
    Signals,
    Stage,
    Tracking,
    Trainer,
)

__all__ = [
    "Analytics",
    "Config",
    "ConfigError",
    "Exploration",
    "Kafka",
    "Keeping",
    "Limits",
    "Promotion",
    "Retrain",
    "Section",
    "Serving",
    "Signals",
    "Stage",
    "Tracking",
    "Trainer",
    "load",
    "parse",
    "sections",
    "template",
]

ENV_PREFIX = "FLYWHEEL__"
FILE_NAME = "flywheel.toml"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, what is wrong with it, and what to write instead."""


class Config(Section):
    """All sections of `flywheel.toml`."""

    kafka: Kafka = Kafka()
    signals: Signals = Signals()
    retrain: Retrain = Retrain()
    trainer: Trainer = Trainer()
    promotion: Promotion = Promotion()
    exploration: Exploration = Exploration()
    limits: Limits = Limits()
    serving: Serving = Serving()
    analytics: Analytics = Analytics()
    keeping: Keeping = Keeping()
    tracking: Tracking = Tracking()


def load(home: Path, environ: Mapping[str, str]) -> Config:
    """Read `home/flywheel.toml` (absent: all defaults) and override it by `FLYWHEEL__SECTION__KEY`.

    Raises:
        ConfigError: unreadable file, unknown key, or a value of the wrong type or range.
    """
    path = home / FILE_NAME
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            if not isinstance(settings.setdefault(section, {}), dict):
                raise ConfigError(f"{section} in {path} must be a table, as in [{section}]")
            settings[section][key] = _from_text(section, key, value)
    return parse(settings, source=str(path))


def parse(settings: Mapping[str, Any], *, source: str = FILE_NAME) -> Config:
    """Validate plain values; see `load` for the errors."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def _explain(problem: Mapping[str, Any]) -> str:
    where = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        # an error is logged, and must not show a secret
        secret = any(word in part for part in where for word in ("token", "password"))
        return f"{'.'.join(where)}: {problem['msg']}" + ("" if secret else f" (got {problem['input']!r})")
    if len(where) == 1:
        valid = list(Config.model_fields)
        owners = [f"{name}.{where[0]}" for name, section in sections() if where[0] in section.model_fields]
        near = owners or difflib.get_close_matches(where[0], valid, n=1, cutoff=0.0)
    else:
        valid = list(dict(sections())[where[0]].model_fields)
        near = [f"{where[0]}.{name}" for name in difflib.get_close_matches(where[1], valid, n=1, cutoff=0.0)]
    return f"unknown key {'.'.join(where)}; did you mean {near[0]}?" if near else f"unknown key {'.'.join(where)}"


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Each table's name and its model, in the order of the file."""
    for name, info in Config.model_fields.items():
        assert isinstance(info.annotation, type)  # noqa: S101 - narrows for mypy; Config is ours
        yield name, info.annotation


def _from_text(section: str, key: str, value: str) -> Any:
    """An environment value as TOML reads it, or the text itself if its field is a string or it is no TOML."""
    model = dict(sections()).get(section)
    annotation = model.model_fields[key].annotation if model and key in model.model_fields else str
    # a table's keys and values are text too, but the table itself is written as TOML has it
    if annotation is str or (str in get_args(annotation) and get_origin(annotation) is not dict):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def template() -> str:
    """The file that `flywheel init` writes: every key with its meaning and its default, commented out."""
    lines = ["# Flywheel's settings. Every key stands here with its default; remove the # to change one.", ""]
    for name, section in sections():
        lines.append(f"[{name}]")
        for key, info in section.model_fields.items():
            default = info.get_default(call_default_factory=True)
            lines.append(f"# {info.description}")
            lines.append(f"# {key} = {_to_toml(default)}")
        lines.append("")
    return "\n".join(lines)


def _to_toml(value: Any) -> str:
    match value:
        case None:
            return '""  # unset'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case tuple() | list():
            return "[" + ", ".join(_to_toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f'"{k}" = {_to_toml(v)}' for k, v in value.items()) + "}"
        case _:
            return f'"{value}"'
