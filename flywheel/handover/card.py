"""The model card: who made this version from what, how it was judged, and how its texts go in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flywheel.handover.sides import OneSide

UNKNOWN = "unknown"
_FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^license:\s*([\w.+-]+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from. `verdicts`: decisions about it, oldest first, each with `verdict` and `reasons`."""

    version: str
    manifest: dict[str, Any]
    verdicts: Sequence[dict[str, Any]] = ()
    licence: str = UNKNOWN
    further: dict[str, str] = field(default_factory=dict)


def licence_of(base: Path) -> str:
    """The licence that the base model's own card names, as the hub spells it; `unknown` where it names none."""
    card = base / "README.md"
    front = _FRONT.match(card.read_text("utf-8", "replace")) if card.exists() else None
    named = _LICENCE.search(front.group(1)) if front else None
    return named.group(1) if named else UNKNOWN


def write_card(folder: Path, lineage: Lineage, sides: Sequence[OneSide], use: str) -> None:
    """Write README.md, as hubs show it, and `lineage.json` for programs. `use`: how it is called, in Markdown."""
    manifest = lineage.manifest
    facts = {
        "version": lineage.version,
        "parent": manifest.get("parent"),
        "tier": manifest.get("tier"),
        "base_model": Path(str(manifest.get("base_model") or lineage.version)).name,
        "created_at": manifest.get("created_at"),
        "run": manifest.get("run_id"),
        "data_snapshot": manifest.get("snapshot_id"),
        "seed": manifest.get("seed"),
        "licence": lineage.licence,
        **lineage.further,
    }
    told = facts | {
        "sides": {
            side.name: {"prompt": side.prompt, "max_tokens": side.limit, "dimension": side.dimension} for side in sides
        },
        "verdicts": list(lineage.verdicts),
    }
    (folder / "lineage.json").write_text(json.dumps(told, indent=2, sort_keys=True, default=str) + "\n", "utf-8")
    (folder / "README.md").write_text(_page(facts, lineage, sides, use), "utf-8")


def _page(facts: dict[str, Any], lineage: Lineage, sides: Sequence[OneSide], use: str) -> str:
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items() if value not in (None, "")
    )
    judged = "\n".join(f"- **{said['verdict']}**: {'; '.join(said['reasons'])}" for said in lineage.verdicts)
    texts = "\n".join(
        f"| {side.name} | {f'`{side.prompt}`' if side.prompt else 'none'} | {side.limit or 'all'} | {side.dimension} |"
        for side in sides
    )
    return f"""---
license: {lineage.licence}
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- flywheel
---

# {lineage.version}

An embedding model that Flywheel tuned on what people did in one search box. It was judged for that search box alone.

## Where it comes from

| | |
|---|---|
{rows}

## How it was judged

{judged or "No decision about this version stands in its home."}

## How texts go in

Vectors have unit length; compare them by their dot product.

| side | text before each text | tokens read | dimensions |
|---|---|---|---|
{texts}

{use}
"""
