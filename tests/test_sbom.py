"""The bill of materials names what the lock names, no more and no less."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _bill() -> str:
    return subprocess.run([sys.executable, ROOT / "scripts/sbom"], check=True, capture_output=True, text=True).stdout


def test_every_locked_file_stands_in_it_under_its_package() -> None:
    """Each pin is a component with a package URL, each hash of the lock is one of a component, and no reference is
    given twice."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    parts = json.loads(_bill())["components"]
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    assert [(part["name"], part["version"]) for part in parts] == pins
    assert {f"pkg:pypi/{part['name'].lower()}@{part['version']}" for part in parts if part["name"] == "torch"} <= {
        part["purl"] for part in parts
    }
    hashes = [found["content"] for part in parts for found in part["hashes"]]
    assert hashes == re.findall(r"sha256:(\w+)", lock)
    assert all(part["hashes"] for part in parts)
    assert len({part["bom-ref"] for part in parts}) == len(parts)


def test_the_same_lock_gives_the_same_bill() -> None:
    """So that whoever has a release can make it again and compare."""
    first = _bill()
    assert first == _bill()
    bill = json.loads(first)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
