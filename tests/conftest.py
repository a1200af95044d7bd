"""The broker that the tests run on, started once a session, and names of topics that no two tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
_RUNNING = pytest.StashKey[ExitStack]()

SOAK = 10
"""One of so many tests of a soak runs in CI."""
LONGEST = ("tests/integration", "tests/consumers/test_ingest_crash.py")
"""What takes longest begins first where several processes share the tests, so that none is left with it at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """One of several processes computes with one thread, and so do the processes that it starts."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where several processes will share the tests, start the broker that they share."""
    if session.config.getoption("numprocesses", None):
        running = session.config.stash[_RUNNING] = ExitStack()
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="kafka-")))
        session.config.stash[_SERVED] = running.enter_context(serve(folder))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop it."""
    if running := session.config.stash.get(_RUNNING, None):
        running.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that shares the tests where the broker is."""
    node.workerinput["broker"] = asdict(node.config.stash[_SERVED])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of each soak take a tenth, unless all of it is asked for; begin with what takes longest.

    The order stays as it is where one process runs all.
    """
    if not os.environ.get("FLYWHEEL_TEST_SOAK"):
        soaked = [item for item in items if item.get_closest_marker("soak")]
        left_out = {item for number, item in enumerate(soaked) if number % SOAK}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):
        ranks = {place: rank for rank, place in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(shared_place(item.nodeid), len(ranks)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share what is dear to make stay in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return shared_place(nodeid)

    return ByPlace(config, log)


def shared_place(nodeid: str) -> str:
    """A test's file, whose fixtures it shares; for whole turns of the wheel their folder, which has one home."""
    file = nodeid.partition("::")[0]
    return LONGEST[0] if file.startswith(LONGEST[0]) else file


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The session's broker; where several processes share the tests, the one that their first process started."""
    handed = getattr(request.config, "workerinput", {}).get("broker")
    with nullcontext(Served(**handed)) if handed else serve(tmp_path_factory.mktemp("kafka")) as served:
        request.config.stash[_SERVED] = served
        yield served


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """The cluster of FLYWHEEL_TEST_BOOTSTRAP, else an Apache Kafka of our own, else the embedded broker."""
    if given := os.environ.get("FLYWHEEL_TEST_BOOTSTRAP"):
        yield Served(given, f"the cluster at {given}")
        return
    started = kafka_script("start", folder)
    try:
        if started.returncode == 0:
            yield Served(started.stdout.splitlines()[-1], "Apache Kafka, started by scripts/kafka")
            return
    finally:
        kafka_script("stop", folder)
    reason = started.stderr.strip() or "scripts/kafka start failed"
    if os.environ.get("CI"):
        pytest.exit(f"CI runs the tests on Apache Kafka, and there is none: {reason}", returncode=1)
    with embedded.EmbeddedBroker() as substitute:
        yield Served(substitute.bootstrap, "the embedded broker", fallback=reason)


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
