"""What an operator of a cluster or of systemd gets keeps to the schema of each, and names what the daemon has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flywheel.settings.load import load
from flywheel.settings.sections import Limits

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OBJECTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def _pod() -> Any:
    return _load(KUBERNETES / "statefulset.yaml")["spec"]["template"]["spec"]


def test_the_objects_of_kubernetes_keep_to_its_schema() -> None:
    """Each object is valid to the letter: no unknown key, none missing.

    The ServiceMonitor is left out: its schema is its operator's.
    """
    assert OBJECTS
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", *map(str, OBJECTS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("passed") + checked.stderr.count("passed") == len(OBJECTS)


def test_the_kustomization_names_every_object() -> None:
    """No file of the folder is forgotten, and none that it names is missing."""
    named = _load(KUBERNETES / "kustomization.yaml")["resources"]
    assert sorted(named) == [path.name for path in OBJECTS]
    monitoring = KUBERNETES / "monitoring"
    assert [(monitoring / name).exists() for name in _load(monitoring / "kustomization.yaml")["resources"]] == [True]


def test_the_objects_find_each_other() -> None:
    """Service, policy and monitor select the labels of the pod, and call its port by its name."""
    labels = _load(KUBERNETES / "statefulset.yaml")["spec"]["template"]["metadata"]["labels"]
    service = _load(KUBERNETES / "service.yaml")
    monitor = _load(KUBERNETES / "monitoring/servicemonitor.yaml")["spec"]
    assert service["spec"]["selector"] == labels
    assert _load(KUBERNETES / "network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert {monitor["endpoints"][0]["port"]} == {port["name"] for port in service["spec"]["ports"]}
    volumes = {volume["name"] for volume in _pod()["volumes"]} | {"home"}
    assert {mount["name"] for mount in _pod()["containers"][0]["volumeMounts"]} == volumes


def test_the_pod_is_hardened() -> None:
    """It is nobody on its node: no root, no capability, no writable root, no token of the cluster."""
    pod, container = _pod(), _pod()["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _gibibytes(text: str) -> int:
    return int(text.removesuffix("Gi"))


def test_the_pod_has_room_for_what_the_limits_allow() -> None:
    """The pod's memory holds a training and more: the kernel ends nothing that our own limits would let pass."""
    memory = _pod()["containers"][0]["resources"]["limits"]["memory"]
    assert _gibibytes(memory) > Limits().train_memory_gb


def _environments() -> dict[str, dict[str, str]]:
    task = re.findall(r"\{Name: (FLYWHEEL\w+), Value: ([^}!]+)\}", (DEPLOY / "ecs/flywheel.yaml").read_text("utf-8"))
    unit = re.findall(r"^Environment=(\w+)=(.+)$", (DEPLOY / "systemd/flywheel.service").read_text("utf-8"), re.M)
    image = re.findall(r"(FLYWHEEL\w+)=(\S+)", (ROOT / "Dockerfile").read_text("utf-8"))
    return {
        "kubernetes": _load(KUBERNETES / "settings.yaml")["data"],
        "ecs": dict(task),
        "systemd": dict(unit),
        "image": dict(image),
    }


@pytest.mark.parametrize("where", ["kubernetes", "ecs", "systemd", "image"])
def test_the_settings_of_each_place_are_settings(where: str, tmp_path: Path) -> None:
    """What a manifest sets exists, has a value that is allowed, and keeps the key of erasures outside the home."""
    environment = _environments()[where]
    config = load(tmp_path, environment | {"FLYWHEEL__SERVING__TOKEN": "a-token-of-sufficient-length"})
    home, key = Path(environment["FLYWHEEL_HOME"]), config.keeping.erasure_key_file
    assert key is not None
    assert home not in key.parents


def test_probes_ask_paths_that_need_no_token() -> None:
    """A probe has no token: liveness and start ask /healthz, readiness asks /readyz."""
    from flywheel.serving.endpoints.access.roles import OPEN_PATHS

    container = _pod()["containers"][0]
    asked = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(asked.values()) <= OPEN_PATHS


def test_the_template_of_ecs_is_valid() -> None:
    """cfn-lint, which knows every resource of CloudFormation, has nothing to say."""
    linter = Path(sys.executable).parent / "cfn-lint"
    checked = subprocess.run([linter, DEPLOY / "ecs/flywheel.yaml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("place", ["kubernetes", "ecs"])
def test_no_second_daemon_meets_the_home(place: str) -> None:
    """A home has one writer: one replica, and the old one ends before the new one starts."""
    if place == "kubernetes":
        stateful = _load(KUBERNETES / "statefulset.yaml")["spec"]
        assert stateful["replicas"] == 1
        assert stateful["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    else:
        text = (DEPLOY / "ecs/flywheel.yaml").read_text("utf-8")
        assert re.search(
            r"DesiredCount: 1\n\s+DeploymentConfiguration:\n\s+MinimumHealthyPercent: 0\n\s+MaximumPercent: 100", text
        )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say, but that the commands of /opt are not on this machine."""
    unit = (
        (DEPLOY / "systemd/flywheel.service")
        .read_text("utf-8")
        .replace("/opt/flywheel/.venv/bin/flywheel", "/bin/true")
    )
    (tmp_path / "flywheel.service").write_text(unit, "utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "flywheel.service"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
