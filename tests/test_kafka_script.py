"""scripts/kafka: one node, found by its own pid file, in a folder that it owns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.broker import admin as broker
from flywheel.settings.load import Kafka
from tests.conftest import SCRIPT, Served, kafka_script


@pytest.mark.kafka
def test_a_node_starts_is_found_stops_and_keeps_its_data(broker_is_apache: None, tmp_path: Path) -> None:
    """A second start finds the first; a stopped node comes back as the same cluster, a wiped one as another."""
    try:
        first = kafka_script("start", tmp_path)
        assert first.returncode == 0, first.stderr
        bootstrap = first.stdout.splitlines()[-1]
        assert bootstrap.startswith("127.0.0.1:")
        assert kafka_script("start", tmp_path).stdout.splitlines()[-1] == bootstrap
        assert kafka_script("status", tmp_path).stdout.strip() == bootstrap
        cluster = broker.cluster_id(Kafka(bootstrap=bootstrap))
        assert kafka_script("stop", tmp_path).returncode == 0
        assert kafka_script("status", tmp_path).returncode == 1
        again = kafka_script("start", tmp_path).stdout.splitlines()[-1]
        assert broker.cluster_id(Kafka(bootstrap=again)) == cluster
        assert kafka_script("wipe", tmp_path).returncode == 0
        assert not (tmp_path / "data").exists()
    finally:
        kafka_script("stop", tmp_path)


@pytest.fixture
def broker_is_apache(broker: Served) -> None:
    if broker.fallback is not None:
        pytest.skip(f"no Apache Kafka here: {broker.fallback}")


def test_nothing_is_deleted_that_the_script_did_not_make(tmp_path: Path) -> None:
    """`wipe` refuses a folder of somebody else's, and leaves it alone."""
    precious = tmp_path / "data" / "precious"
    precious.parent.mkdir()
    precious.touch()
    refused = kafka_script("wipe", tmp_path)
    assert refused.returncode == 1
    assert "nothing was deleted" in refused.stderr
    assert precious.exists()


def test_a_stale_pid_file_ends_nobody(tmp_path: Path) -> None:
    """A pid that now belongs to another process is not ours: it is neither found nor stopped."""
    (tmp_path / "kafka.pid").write_text(f'{{"pid": {os.getpid()}, "bootstrap": "127.0.0.1:1"}}')
    assert kafka_script("status", tmp_path).returncode == 1
    stopped = kafka_script("stop", tmp_path)  # were it to end the process that it names, this test would end here
    assert "was not running" in stopped.stderr


def test_a_machine_without_java_is_told_what_to_install(tmp_path: Path) -> None:
    """The error names what is missing and a package that has it."""
    refused = subprocess.run(
        [sys.executable, str(SCRIPT), "start", "--dir", str(tmp_path / "node"), "--port", "0"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "Java 17" in refused.stderr
    assert "openjdk" in refused.stderr
