"""Reads the settings: one `flywheel.toml`, overridden by the environment; an error names the nearest valid key.

Every field has a default and a description; `flywheel init` writes them all, commented. Nothing else reads settings.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator
from collections.abc import Mapping as Mapped
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError, model_validator

from flywheel.settings.choices import FILE_NAME
from flywheel.settings.metrics import Metrics, OwnMetric
from flywheel.settings.sections import (
    Analytics,
    Exploration,
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
from flywheel.settings.sources import Kafka, Mapping
from flywheel.settings.watching import Logs, Traces, Webhooks

__all__ = [
    "FILE_NAME",
    "Analytics",
    "Config",
    "ConfigError",
    "Exploration",
    "Kafka",
    "Keeping",
    "Limits",
    "Logs",
    "Mapping",
    "Metrics",
    "OwnMetric",
    "Promotion",
    "Retrain",
    "Section",
    "Serving",
    "Signals",
    "Stage",
    "Traces",
    "Tracking",
    "Trainer",
    "Webhooks",
    "from_text",
    "load",
    "parse",
    "sections",
    "template",
    "to_toml",
]

ENV_PREFIX = "FLYWHEEL__"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, what is wrong with it, and what to write instead."""


class Config(Section):
    """All sections of `flywheel.toml`."""

    kafka: Kafka = Kafka()
    signals: Signals = Signals()
    mapping: Mapping = Mapping()
    retrain: Retrain = Retrain()
    trainer: Trainer = Trainer()
    promotion: Promotion = Promotion()
    metrics: Metrics = Metrics()
    exploration: Exploration = Exploration()
    limits: Limits = Limits()
    serving: Serving = Serving()
    analytics: Analytics = Analytics()
    keeping: Keeping = Keeping()
    tracking: Tracking = Tracking()
    logs: Logs = Logs()
    webhooks: Webhooks = Webhooks()
    traces: Traces = Traces()

    @model_validator(mode="after")
    def _judged_by_a_metric(self) -> Config:
        """The live metric exists, and the stage that decides can count it."""
        wanted = self.promotion.live_metric
        if wanted not in self.metrics.names:
            raise ValueError(
                f"promotion.live_metric: {wanted!r} is none of {', '.join(self.metrics.names)} (metrics.own makes more)"
            )
        if wanted in self.metrics.own and self.promotion.stages[-1] == "interleaving":
            raise ValueError(
                f"promotion.live_metric {wanted} belongs to whole pages, which interleaving mixes; let split or "
                "observe decide, after interleaving if you like"
            )
        return self


def load(home: Path, environ: Mapped[str, str]) -> Config:
    """Read `home/flywheel.toml` (absent: all defaults) and override it by `FLYWHEEL__SECTION__KEY`.

    Raises:
        ConfigError: unreadable file, unknown key, or a value of the wrong type or range.
    """
    path = home / FILE_NAME
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    _refuse_near_misses(environ)
    names: dict[tuple[str, ...], str] = {}
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            if not isinstance(settings.setdefault(section, {}), dict):
                raise ConfigError(f"{section} in {path} must be a table, as in [{section}]")
            settings[section][key] = from_text(section, key, value)
            names[section, key] = name
    return parse(settings, source=str(path), names=names)


def _refuse_near_misses(environ: Mapped[str, str]) -> None:
    """A setting with one underscore where two belong would have no effect, and nobody would say so."""
    for name in environ:
        words = name.removeprefix("FLYWHEEL_").lower()
        if not name.startswith("FLYWHEEL_") or name.startswith(ENV_PREFIX):
            continue
        for section, model in sections():
            key = words.removeprefix(f"{section}_").lstrip("_")
            if words.startswith(f"{section}_") and key in model.model_fields:
                meant = f"{ENV_PREFIX}{section}__{key}".upper()
                raise ConfigError(
                    f"{name} in the environment has no effect; did you mean {meant}, with two underscores?"
                )


def parse(
    settings: Mapped[str, Any], *, source: str = FILE_NAME, names: Mapped[tuple[str, ...], str] | None = None
) -> Config:
    """Validate plain values; see `load` for the errors. `names` are the variables that settings came from."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        blamed: dict[str, list[str]] = {}
        for problem in error.errors():
            variable = (names or {}).get(tuple(str(part) for part in problem["loc"][:2]))
            where = f"{variable} in the environment" if variable else source
            blamed.setdefault(where, []).append(_explain(problem))
        raise ConfigError("; ".join(f"{where}: {'; '.join(words)}" for where, words in blamed.items())) from error


def _explain(problem: Mapped[str, Any]) -> str:
    where = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        # an error is logged, and must not show a secret
        secret = any(word in part for part in where for word in ("token", "password", "secret"))
        words = str(problem["msg"]).removeprefix("Value error, ")
        shown = "" if secret or not where else f" (got {problem['input']!r})"
        return ": ".join(part for part in (".".join(where), words) if part) + shown
    if len(where) == 1:
        valid = list(Config.model_fields)
        owners = [f"{name}.{where[0]}" for name, section in sections() if where[0] in section.model_fields]
        near = owners or difflib.get_close_matches(where[0], valid, n=1, cutoff=0.0)
    elif where[:2] == ["metrics", "own"]:
        near = [
            ".".join([*where[:-1], name]) for name in difflib.get_close_matches(where[-1], OwnMetric.model_fields, 1)
        ]
    else:
        valid = list(dict(sections())[where[0]].model_fields)
        near = [f"{where[0]}.{name}" for name in difflib.get_close_matches(where[1], valid, n=1, cutoff=0.0)]
    return f"unknown key {'.'.join(where)}; did you mean {near[0]}?" if near else f"unknown key {'.'.join(where)}"


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Each table's name and its model, in the order of the file."""
    for name, info in Config.model_fields.items():
        assert isinstance(info.annotation, type)  # noqa: S101 - narrows for mypy; Config is ours
        yield name, info.annotation


def from_text(section: str, key: str, value: str) -> Any:
    """An environment value as TOML reads it, or the text itself if its field is a string or it is no TOML."""
    model = dict(sections()).get(section)
    annotation = model.model_fields[key].annotation if model and key in model.model_fields else str
    if annotation is str or (get_origin(annotation) in {UnionType, Union} and str in get_args(annotation)):
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
            lines.append(f"# {key} = {to_toml(default)}")
        lines.append("")
    return "\n".join(lines)


def to_toml(value: Any) -> str:
    """A value as it stands in the file."""
    match value:
        case None:
            return '""  # unset'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case tuple() | list():
            return "[" + ", ".join(to_toml(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f'"{k}" = {to_toml(v)}' for k, v in value.items()) + "}"
        case _:
            return json.dumps(str(value), ensure_ascii=False)  # a basic string of TOML has JSON's escapes
