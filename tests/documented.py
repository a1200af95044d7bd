"""The pages of the documentation as tests read them: fenced blocks by kind, and every command line that they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("curl", "docker", "duckdb", "flywheel", "make", "mlflow", "pytest", "python", "scripts/kafka", "source")
PROGRAMS += ("wandb",)
_FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    """What stands in the page's fenced blocks of this kind, such as `sh`, `sql live` or "" for none."""
    return [body for name, body in _FENCE.findall(page.read_text("utf-8")) if name == kind]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def command_lines(page: Path) -> Iterator[str]:
    """Every command that the page shows, in a `sh` block or in backticks, without its comment.

    A line that ends with a backslash goes on in the next one. Settings in front of a command stay.
    """
    shown = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    shown += re.findall(r"`([^`\n]+)`", prose(page))
    for line in shown:
        text = re.split(r"\s+#", line.strip())[0]
        words = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", text).split()
        if len(words) > 1 and words[0] in PROGRAMS:
            yield text
