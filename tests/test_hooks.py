"""What runs at a commit is what CI runs: the same programs, on the files that changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SUBJECT = ROOT / "scripts" / "commit-subject"


def _hooks() -> list[dict[str, Any]]:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    return [hook | {"repo": repository["repo"]} for repository in repositories for hook in repository["hooks"]]


def _called_in_ci() -> list[str]:
    """The commands of the recipes that .ci/run calls, but for those of the tests, as `PROGRAM ARGUMENT …`."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    recipes = [re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE) for target in targets]
    commands = [line for recipe in recipes if recipe for line in recipe[1].splitlines()]
    called = [command for line in commands for command in re.findall(r"\$\(BIN\)/([^|&;]+)", line)]
    return [command.strip() for command in called if not command.startswith("pytest")]


def _without_options(command: str) -> str:
    return " ".join(word for word in command.split() if word != "." and word != "--force-exclude")


def test_a_commit_is_held_to_what_ci_checks() -> None:
    """Every hook at a commit is a command of CI, and every command of CI but the tests is a hook."""
    entries = [str(hook["entry"]) for hook in _hooks() if "commit-msg" not in hook.get("stages", [])]
    assert [entry for entry in entries if not entry.startswith(".venv/bin/")] == []
    hooked = {_without_options(entry.removeprefix(".venv/bin/")) for entry in entries}
    assert hooked == {_without_options(command) for command in _called_in_ci()}
    assert {"ruff check", "ruff format --check", "mypy", "lint-imports"} <= hooked


def test_no_hook_is_fetched_from_anywhere() -> None:
    """All hooks are programs of this checkout; a machine without a way out can commit."""
    hooks = _hooks()
    assert {hook["repo"] for hook in hooks} == {"local"}
    assert {hook["language"] for hook in hooks} <= {"system", "script"}


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    identity = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false")
    return _run(folder, "git", *identity, *arguments)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ["PRE_COMMIT_HOME"] = str(folder.parent / "hooks")
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with our hooks installed, our environment, and one committed file of the product."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in (".pre-commit-config.yaml", "pyproject.toml", "scripts/commit-subject"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
        (folder / name).chmod((ROOT / name).stat().st_mode)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (folder / ".gitignore").write_text(".venv/\n.*_cache/\n")
    assert _git(folder, "init").returncode == 0
    for arguments in (("install",), ("validate-config",)):
        done = _run(folder, sys.executable, "-m", "pre_commit", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("content", "subject", "refusal"),
    [
        ('"""Nothing is wrong here."""\n', "Say it briefly", None),
        ("import os\n", "Say it briefly", "F401"),
        ('"""Nothing is wrong here."""\n', "x" * 72, "72 characters"),
    ],
    ids=["clean", "an unused import", "a long subject"],
)
def test_git_commits_what_keeps_the_rules_and_nothing_else(
    checkout: Path, content: str, subject: str, refusal: str | None
) -> None:
    """With the hooks installed, real commits pass or are refused with the rule that they break."""
    (checkout / "notes.py").write_text(content)
    _git(checkout, "add", "notes.py")
    done = _git(checkout, "commit", "-m", subject)
    committed = _git(checkout, "log", "--format=%s").stdout.split("\n")[:-1]
    assert committed == ([subject] if refusal is None else []), done.stdout + done.stderr
    assert refusal is None or refusal in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * 71, 0),
        ("x" * 72, 1),
        ("\n# a comment\nx\n\n" + "y" * 90, 0),
        ("ü" * 71, 0),
        ("# " + "x" * 90 + "\nshort", 0),
    ],
    ids=["71", "72", "a long body", "71 that are no ASCII", "a long comment"],
)
def test_a_subject_has_fewer_than_72_characters(tmp_path: Path, message: str, code: int) -> None:
    """The first line that is no comment counts, in characters; the body may be as wide as it likes."""
    path = tmp_path / "message"
    path.write_text(message, "utf-8")
    ran = subprocess.run([sys.executable, str(SUBJECT), str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
