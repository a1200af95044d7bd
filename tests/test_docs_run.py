"""Every command of README, docs and CONTRIBUTING is run: on one home with one daemon, or where this file says."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import httpx
import pytest

from flywheel.cli import main
from tests.documented import PAGES, ROOT, blocks, command_lines
from tests.documented_home import PERSON, broker, daemon, lay_out

# One fixture trains, serves and evaluates for all of them; on a machine that does other things that takes minutes.
pytestmark = pytest.mark.timeout(1_800)
SHOWN = list(dict.fromkeys(line for page in PAGES for line in command_lines(page)))
# What nobody can run here, and why: it is parsed alone.
ABSENT = {
    "docker compose": "Docker",
    "make image-check": "Docker, or root on Debian and several GB",
    "make setup TORCH=cpu": "another package index",
    "mlflow ui": "MLflow's server, which the client does not carry",
    "wandb sync": "an account with Weights & Biases",
}
# What would run these tests inside themselves, or for minutes, and the text that says where it is run.
ELSEWHERE = {
    r"make (test|test-slow|lint|types|contracts)": (".ci/run", "make {0}"),
    r"make demo": ("tests/test_docs_run.py", '"make", "demo"'),
    r"flywheel (demo)": ("Makefile", "flywheel {0}"),
    r"flywheel dead-letters show .*": ("tests/commands/test_records.py", '"dead-letters", "show"'),
    r"flywheel gate": ("tests/commands/proving/test_gate.py", 'main(["gate"'),
    r"flywheel gate --model .*": ("tests/commands/proving/test_gate.py", '"gate", "--model"'),
    r"flywheel import feedback .* --format (ga4|snowplow)": ("tests/files/test_dialects.py", '"{0}"'),
    r"flywheel restore .*": ("tests/commands/test_backup.py", '"restore"'),
    r"make (setup|format|check|clean|soak|hooks|sbom)": ("Makefile", "{0}: "),
    r"scripts/kafka (\w+)": ("tests/test_kafka_script.py", 'kafka_script("{0}"'),
    r"flywheel simulate --beir DIR.*": ("tests/rehearsal/test_stage.py", '"simulate", "--beir"'),
    r"python -m (benchmarks)\.report": ("tests/test_figures.py", "report.page("),
    r"python -m benchmarks\.(\w+).*": ("tests/test_figures.py", "row.command"),
}
WAIT_SECONDS = 120.0
# The order in which somebody would call them; what is not here comes after `resume`.
ORDER = ["init", "run", "import", "doctor", "train", "promote", "cycle", "evaluate", "rollback", "pause", "resume"]
ORDER += ["", "erase-user"]
WORDS = {"judged/": "judged", "general/": "general", "VERSION": "v1", "ID": PERSON, "/var/lib/flywheel": "search"}
WORDS["/backups/2026-03-01"] = "backup"


def _named_alone(line: str) -> bool:
    """A command that the text only mentions: without what it needs, or with an ellipsis for it."""
    return line.endswith('"…"') and "sql" in line


def _elsewhere(line: str) -> tuple[str, str] | None:
    for pattern, (place, text) in ELSEWHERE.items():
        if found := re.fullmatch(pattern, line):
            return place, text.format(*found.groups() or ("",))
    return None


def _flywheel(line: str) -> list[str]:
    """The arguments of a documented call, with this room's names for the reader's."""
    return [WORDS.get(word, word) for word in shlex.split(line)[1:]]


def _turn(line: str) -> int:
    arguments = [word for word in _flywheel(line) if word not in ("--home", "search")]
    return ORDER.index(arguments[0] if arguments[0] in ORDER else "")


CALLS = [line for line in SHOWN if line.startswith("flywheel ") and not _elsewhere(line) and not _named_alone(line)]
CALLS.sort(key=_turn)
SQL = [sql for kind in ("sql", "sql recompute", "sql live") for page in PAGES for sql in blocks(page, kind)]


@dataclass(frozen=True)
class Ran:
    """How a command ended, what it printed, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Lived:
    """The room after all calls: what came of each, and where the daemon answered and still does."""

    room: Path
    url: str
    calls: dict[str, Ran]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    """All documented calls of `flywheel`, in order, in one room; `run` is the daemon that the later ones meet."""
    room = tmp_path_factory.mktemp("documented")
    lay_out(room)
    calls: dict[str, Ran] = {}
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.enter_context(broker()), "FLYWHEEL_HOME": str(room / "search")}.items():
            patch.setenv(name, value)
        patch.chdir(room)
        url = ""
        for line in CALLS:
            if _turn(line) == ORDER.index("run"):
                url = url or stack.enter_context(daemon(room / "search"))
                calls[line] = Ran(0, url, "")
            else:
                calls[line] = _called(_flywheel(line))
        yield Lived(room, url, calls)


def _called(arguments: list[str]) -> Ran:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("line", CALLS)
def test_a_documented_call_does_what_it_should(lived: Lived, line: str) -> None:
    """Whoever copies it from the page, in the order of the pages, is not refused."""
    ran = lived.calls[line]
    assert ran.code == 0, ran.err


def test_every_other_command_is_run_somewhere() -> None:
    """A new command in the docs is run here, or is named with the place where it is run, or with what it lacks."""
    for line in SHOWN:
        if line.startswith(("flywheel ", "curl ", "duckdb ", "source ", "pytest ")) and not _elsewhere(line):
            continue
        if any(line.partition("…")[2].strip().startswith(name) or line.startswith(name) for name in ABSENT):
            continue
        place = _elsewhere(line)
        assert place is not None, f"{line}: say in {Path(__file__).name} where it is run"
        assert place[1] in (ROOT / place[0]).read_text("utf-8"), f"{line}: {place[0]} does not have {place[1]}"
        if line.startswith("make "):  # its recipe is there, and a shell reads it
            assert (
                subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=False).returncode == 0
            )


def test_what_is_absent_here_parses() -> None:
    """The few commands that need Docker, another index or another program are at least words that a shell reads."""
    lines = [line for line in SHOWN for name in ABSENT if name in line]
    assert {name for name in ABSENT if any(name in line for line in lines)} == set(ABSENT)
    for line in lines:
        assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0, line


@pytest.mark.parametrize("line", [line for line in SHOWN if line.startswith("curl ")])
def test_a_documented_request_is_answered(lived: Lived, line: str) -> None:
    """The request of the page brings the answer that the page shows; only the address is this daemon's."""
    words = shlex.split(line.replace("localhost:8642", lived.url))
    assert shutil.which("curl"), "the page's command needs curl"
    deadline = time.monotonic() + WAIT_SECONDS
    while httpx.get(f"{lived.url}/readyz", trust_env=False).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answer = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in ("query_id", "model_version", "index_id", "hits"):
        assert f'"{name}"' in answer


@pytest.mark.parametrize("statement", SQL, ids=[" ".join(sql.split())[:50] for sql in SQL])
def test_a_documented_statement_runs_on_what_is_published(lived: Lived, statement: str) -> None:
    """An analyst's own DuckDB reads it from the folder, read-only, while the daemon runs: `duckdb -readonly FILE`."""
    (line,) = [line for line in SHOWN if line.startswith("duckdb ")]
    path = lived.room / shlex.split(line)[-1].replace("flywheel-home", "search")
    deadline = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, "nothing was published"
        time.sleep(0.1)
    with duckdb.connect(path, read_only=True) as con:
        assert con.execute(statement).description


def test_the_environment_is_activated_as_the_readme_says() -> None:
    """After `source .venv/bin/activate` there is a command `flywheel`."""
    (line,) = [line for line in SHOWN if line.startswith("source ")]
    if not (ROOT / shlex.split(line)[1]).exists():
        pytest.skip("these tests run in an environment that make did not make")
    ran = subprocess.run(["bash", "-c", f"{line} && flywheel --version"], cwd=ROOT, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("line", [line for line in SHOWN if line.startswith("pytest ")])
def test_one_test_runs_as_contributing_says(line: str) -> None:
    """The command for one file passes."""
    command = [sys.executable, "-m", *shlex.split(line), "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_demo_ends_with_its_table(tmp_path: Path) -> None:
    """`make demo`, as a stranger calls it, closes the loop and says what came of it."""
    environ = {**os.environ, "FLYWHEEL_HOME": str(tmp_path / "home")}
    ran = subprocess.run(["make", "demo"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "ndcg@10" in ran.stdout
    _follow_the_next_steps(ran.stdout)


def _follow_the_next_steps(printed: str) -> None:
    """Each call that the demo prints at its end works as it is printed; what serves is stopped again."""
    steps = [line.strip() for line in printed.splitlines() if re.match(r"  \S*flywheel --home ", line)]
    assert len(steps) >= 4
    for step in steps:
        if "run --with-broker" not in step:
            done = subprocess.run(shlex.split(step), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{step}: {done.stderr}"
            continue
        serving = subprocess.Popen(shlex.split(step), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            home = Path(shlex.split(step)[2])
            deadline = time.monotonic() + WAIT_SECONDS
            while not (home / "daemon.json").exists():
                assert serving.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            serving.terminate()
            serving.wait(timeout=60)
