"""The page at /: nothing from elsewhere, nothing unescaped, and everything that ops look for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import flywheel.page.dashboard as served
from tests.serving.house import House

PROBE = Path(__file__).with_name("dashboard_probe.js")
EVIL = "<img src=x onerror=alert(1)>"


def test_the_policy_admits_the_pages_own_script_and_style_alone(house: House) -> None:
    """The hashes in the policy are those of the inline script and style, and nothing may come from elsewhere."""
    answer = house.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (body,) = re.findall(f"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|\son\w+=|\sstyle=", answer.text)


def test_it_shows_what_the_house_knows_as_text(tmp_path: Path) -> None:
    """Figures, trouble, verdicts with reasons, lineage and triggers are shown; markup in them stays text."""
    if shutil.which("node") is None:
        pytest.skip("needs node to run the page's script")
    answers = {
        "/v1/status": {
            "ingest": {"events": 12_345, "rate": 67.5, "warnings": [EVIL]},
            "champion": {"version": "m2"},
            "broker": {"phase": "connected"},
            "cycle": {"paused": True},
            "triggers": [{"name": "min_new_pairs", "value": 3, "threshold": 200, "fired": False, "note": "too few"}],
        },
        "/v1/models": [{"version": "m2", "alias": "champion", "parent": "base", "metrics": {"ndcg@10": 0.68}}],
        "/v1/decisions": [{"ts": "2026-01-01", "kind": "promote", "version": "m2", "reasons": ["gained", EVIL]}],
        "/v1/experiments": [
            {"experiment_id": "e1", "version": "m3", "stage": "split", "outcomes": [{"metric": "ctr"}]}
        ],
    }
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    page = Path(served.__file__).with_name("dashboard.html")
    run = subprocess.run(
        ["node", str(PROBE), str(page), str(tmp_path / "answers.json")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    shown = json.loads(run.stdout)["shown"]
    assert sorted(json.loads(run.stdout)["asked"]) == sorted(answers)
    assert "67.5 | events a second" in shown["figures"]
    assert "paused | cycle" in shown["figures"]
    assert EVIL in shown["trouble"]
    assert f"promote | m2 | – | – | – | gained | {EVIL}" in shown["decisions"]
    assert "m2 | champion | base" in shown["models"]
    assert "min_new_pairs | 3 | 200 | no | too few" in shown["triggers"]
    assert "e1 | m3 | split" in shown["experiments"]
    assert shown["state"].startswith("as of")
