"""What stands in the product once: a setting's default, a list of choices, and nothing at all for tests alone."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from flywheel.settings.load import Config

ROOT = Path(__file__).parents[1]
PACKAGES = ("flywheel", "consumers", "trainer")
SETTINGS = "flywheel/settings/sections.py"
OURS = {"dataclass", "property", "cached_property", "cache", "classmethod", "staticmethod", "contextmanager"}
"""Decorators that call nothing."""
Default = tuple[str, str, Any]
"""Where it is written, what it is the default of, and its value."""


@cache
def _trees() -> dict[str, ast.Module]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in paths}


@cache
def _settings() -> frozenset[tuple[str, str, Any]]:
    """(section, key, default) of every key that has one."""
    return frozenset(
        (section, key, field.default)
        for section, table in Config.model_fields.items()
        for key, field in table.annotation.model_fields.items()  # type: ignore[union-attr]
        if field.default_factory is None and field.default is not None
    )


def _defaults(name: str, tree: ast.Module) -> Iterator[Default]:
    """Literal defaults of parameters and fields; a constant of the same module stands for its value."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def read(node: ast.expr) -> Any:
        try:
            return ast.literal_eval(constants.get(node.id, node) if isinstance(node, ast.Name) else node)
        except ValueError:
            return None

    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and field.value and isinstance(field.target, ast.Name):
                    yield f"{name}:{field.lineno} {node.name}", field.target.id, read(field.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = node.args
            placed = [*given.posonlyargs, *given.args]
            pairs = [*zip(reversed(placed), reversed(given.defaults), strict=False)]
            for argument, value in [*pairs, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
                if value is not None:
                    yield f"{name}:{node.lineno} {getattr(node, 'name', 'lambda')}", argument.arg, read(value)


def _copies(name: str, tree: ast.Module) -> list[str]:
    """Defaults that repeat a setting's: of its name, or of the end of it (`memory_gb` of `duckdb_memory_gb`).

    Nothing (0, "", ()) is no choice that could go out of step, and one word at the end (`days`) says too little.
    """
    return [
        f"{where}: {called} = {value!r} is {section}.{key}"
        for where, called, value in _defaults(name, tree)
        for section, key, default in _settings()
        if called == key or ("_" in called and key.endswith(f"_{called}"))
        if value == default and type(value) in {type(default), int} and (value or value is False)
    ]


def test_no_default_is_written_twice() -> None:
    """Outside the settings no parameter and no field has a setting's name and default: it is passed, or derived."""
    trees = _trees()
    assert [copy for name, tree in trees.items() if name != SETTINGS for copy in _copies(name, tree)] == []


def test_a_copied_default_is_found() -> None:
    """The rule sees a field, a parameter, a shorter name and a constant; another value or `None` is no copy."""
    text = """
LIMIT = 100_000
@dataclass
class Recipe:
    steps: int = 120
    learn_dwell: bool = True
    batch_size: int = 64
def open(path, memory_gb: float = 4.0, *, satisfied_ms=30_000, ssl_cafile=None, result_rows: int = LIMIT): ...
"""
    found = {line.partition(" is ")[2] for line in _copies("made_up.py", ast.parse(text))}
    assert found == {
        *("trainer.steps", "signals.learn_dwell", "limits.duckdb_memory_gb", "signals.satisfied_ms"),
        "limits.result_rows",
    }


def _choices() -> dict[tuple[str, ...], str]:
    """The named choices of the product: tiers, stages, habits, ..."""
    return {
        values: target.id
        for tree in _trees().values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
        if isinstance(node.value.value, ast.Name) and node.value.value.id == "Literal"
        for target in node.targets
        if isinstance(target, ast.Name)
        for _, values in _listed(node.value)
    }


def _listed(tree: ast.AST) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every list, tuple and set of plain strings, those in `Literal[...]` too, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            values = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            if len(values) == len(node.elts) and all(isinstance(value, str) for value in values):
                yield node.lineno, tuple(map(str, values))


def test_choices_are_listed_once() -> None:
    """Tiers, stages and the like stand in one `Literal`; whoever needs them imports it."""
    choices = _choices()
    assert {"Tier", "Stage", "LiveMetric", "Bf16", "Loss", "Distillation"} <= set(choices.values())
    places: dict[str, list[str]] = {name: [] for name in choices.values()}
    for name, tree in _trees().items():
        for line, values in _listed(tree):
            if values in choices:
                places[choices[values]].append(f"{name}:{line}")
    places.pop("Task")  # /v1/embeddings has the same two words, and they are the wire's
    assert {name: lines for name, lines in places.items() if len(lines) != 1} == {}


def _names(tree: ast.AST) -> Iterator[str]:
    """Every name that is read or looked up, and every identifier in a string (commands are found by theirs)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.:]+", node.value):
            yield from re.split(r"[.:]", node.value)


def _unreached(trees: Mapping[str, ast.Module]) -> list[str]:
    """Public functions, classes and methods whose name stands nowhere in these modules but where it is defined.

    What has a decorator of its own library (a command, a validator) is called by it; so is what overrides a method.
    """
    used = Counter(name for tree in trees.values() for name in _names(tree))
    found = []
    for place, tree in trees.items():
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        methods = [(node, inner) for node in classes for inner in node.body if isinstance(inner, ast.FunctionDef)]
        plain = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        for owner, node in [*((None, node) for node in plain), *methods]:
            inside = sum(name == node.name for name in _names(node))
            called = {ast.unparse(item).partition("(")[0].rpartition(".")[2] for item in node.decorator_list} - OURS
            inherited = owner is not None and bool(owner.bases)
            if not (node.name.startswith("_") or called or inherited or used[node.name] > inside):
                found.append(f"{place}:{node.lineno} {node.name}")
    return found


def test_nothing_is_there_for_tests_alone() -> None:
    """Whatever is public in the product, something else in the product uses."""
    assert _unreached(_trees()) == []


def test_what_nothing_uses_is_found() -> None:
    """A function that only calls itself, a class and a method are; commands, overrides and what is used are not."""
    text = """
def again(): again()
class Sums:
    def merged(self): ...
    @property
    def mean(self): ...
class Used(Protocol):
    def asked(self): ...
@cli.command()
def init(): Used()
"""
    found = [line.rpartition(" ")[2] for line in _unreached({"made_up.py": ast.parse(text)})]
    assert found == ["again", "Sums", "merged", "mean"]
