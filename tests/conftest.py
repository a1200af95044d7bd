"""The broker that the tests run on, started once a session, and names of topics that no two tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flywheel.broker import embedded
from flywheel.settings.load import Kafka

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka"


@dataclass(frozen=True)
class Served:
    """Which broker serves this session; `fallback` is the reason why it is not Apache Kafka."""

    bootstrap: str
    name: str
    fallback: str | None = None


_SERVED = pytest.StashKey[Served]()


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The cluster of FLYWHEEL_TEST_BOOTSTRAP, else an Apache Kafka of our own, else the embedded broker."""
    if given := os.environ.get("FLYWHEEL_TEST_BOOTSTRAP"):
        served = Served(given, f"the cluster at {given}")
        request.config.stash[_SERVED] = served
        yield served
        return
    folder = tmp_path_factory.mktemp("kafka")
    started = kafka_script("start", folder)
    try:
        if started.returncode == 0:
            served = Served(started.stdout.splitlines()[-1], "Apache Kafka, started by scripts/kafka")
            request.config.stash[_SERVED] = served
            yield served
            return
    finally:
        kafka_script("stop", folder)
    reason = started.stderr.strip() or "scripts/kafka start failed"
    if os.environ.get("CI"):
        pytest.exit(f"CI runs the tests on Apache Kafka, and there is none: {reason}", returncode=1)
    with embedded.EmbeddedBroker() as substitute:
        served = Served(substitute.bootstrap, "the embedded broker", fallback=reason)
        request.config.stash[_SERVED] = served
        yield served


@pytest.fixture(scope="session")
def kafka_bootstrap(broker: Served) -> str:
    """host:port of the broker."""
    return broker.bootstrap


@pytest.fixture
def kafka_settings(kafka_bootstrap: str) -> Kafka:
    """Settings for the broker with a group and topics that only this test has; the topics are not created yet."""
    return unique_kafka(kafka_bootstrap)


@pytest.fixture
def apache_kafka(broker: Served, kafka_settings: Kafka) -> Kafka:
    """Settings as `kafka_settings`, for what the embedded broker does wrong; skipped where that one serves."""
    if broker.fallback is not None:
        pytest.skip("the embedded broker does not do this as Apache Kafka does")
    return kafka_settings


@pytest.fixture
def topic_name() -> Callable[[str], str]:
    """Makes a topic's name that nothing else uses."""
    return lambda stem: f"{stem}-{uuid.uuid4().hex[:12]}"


def unique_kafka(bootstrap: str) -> Kafka:
    """Settings whose group and topics nothing else uses."""
    mark = uuid.uuid4().hex[:12]
    return Kafka(
        bootstrap=bootstrap,
        group=f"group-{mark}",
        topic_queries=f"queries-{mark}",
        topic_events=f"events-{mark}",
        topic_documents=f"documents-{mark}",
        topic_models=f"models-{mark}",
        topic_dead_letters=f"dead-letters-{mark}",
    )


def kafka_script(command: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/kafka for a node of its own on a free port."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), command, "--dir", str(folder), "--port", "0", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which broker served, and loudly so when it was not Kafka."""
    served = config.stash.get(_SERVED, None)
    if served is None:
        return
    terminalreporter.write_line(f"broker: {served.name} ({served.bootstrap})")
    if served.fallback is not None:
        terminalreporter.write_sep("!", "NOT TESTED ON APACHE KAFKA", red=True, bold=True)
        terminalreporter.write_line(f"the embedded broker stood in: {served.fallback}", red=True)
        terminalreporter.write_line("what must hold in production was not shown by this run", red=True)
