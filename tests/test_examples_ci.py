"""The pipelines in `examples/ci` do what they say: their steps run here, with stand-ins for what the host brings."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.proving.models import BAD, NUDGED, collection, spoilt

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "ci"


def _read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return found


def _lines(name: str) -> str:
    """The lines that the host would run, in order; what only the host can do (`uses`) is left out."""
    if name == "github-actions.yml":
        steps = _read(name)["jobs"]["gate"]["steps"]
        return "\n".join(step["run"] for step in steps if "run" in step)
    job = _read(name)["gate"]
    return "\n".join([*job["before_script"], *job["script"]])


def _run(name: str, folder: Path, new: str, live: str) -> subprocess.CompletedProcess[str]:
    tools = folder / "bin"
    tools.mkdir()
    for tool, line in (("pip", "echo installed"), ("flywheel", f'exec {sys.executable} -m flywheel.cli "$@"')):
        (tools / tool).write_text(f"#!/bin/sh\n{line}\n")
        (tools / tool).chmod((tools / tool).stat().st_mode | stat.S_IXUSR)
    collection(folder / "judged")
    for name_of, source in (("new", new), ("live", live)):
        shutil.copytree(source, folder / "models" / name_of)
    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environ["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    lines = ["bash", "-eo", "pipefail", "-c", _lines(name)]
    return subprocess.run(lines, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_a_worse_model_fails_the_pipeline(tmp_path: Path) -> None:
    """The steps end with 1, and leave the files that the host collects."""
    done = _run("gitlab-ci.yml", tmp_path, spoilt(BAD), spoilt(NUDGED))
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "gate.xml").is_file()
    assert "not better" in (tmp_path / "gate.md").read_text("utf-8")


def test_what_is_undecided_is_a_warning_at_github(tmp_path: Path) -> None:
    """The same model twice: the step passes, warns, and writes the summary."""
    done = _run("github-actions.yml", tmp_path, spoilt(NUDGED), spoilt(NUDGED))
    assert done.returncode == 0, done.stderr
    assert "::warning::Undecided" in done.stdout
    assert "undecided" in (tmp_path / "summary.md").read_text("utf-8")


def test_what_is_undecided_is_a_warning_at_gitlab() -> None:
    """GitLab itself takes the code of an undecided verdict for a warning."""
    assert _read("gitlab-ci.yml")["gate"]["allow_failure"] == {"exit_codes": [3]}


@pytest.mark.parametrize(
    ("name", "schema"), [("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci")]
)
def test_the_host_would_read_them(name: str, schema: str) -> None:
    """Both keep to the schema that their host publishes."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(FOLDER / name)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
