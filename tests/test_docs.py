"""Documentation that cannot rot: its commands parse, its settings exist, its SQL runs, its messages are read."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from consumers.decode import Decoder
from flywheel.cli import COMMANDS, cli
from flywheel.gates.live import LiveEvidence, decide_live
from flywheel.serving.endpoints.control import ALLOWED
from flywheel.settings import load as config
from flywheel.stats.ratio import ArmSums as Sums
from flywheel.store.evaluation.decisions import Decision
from flywheel.store.evaluation.outcomes import Outcome, OutcomeSums
from flywheel.store.store import Store
from tests import defaults
from tests.documented import PAGES, ROOT, blocks, command_lines, prose

TREE = ROOT / "CONTRIBUTING.md"
HEADINGS = ["Context", "Decision", "Consequences", "What would change our minds"]
MOST_WORDS = 700


def _calls(page: Path) -> Iterator[str]:
    """Every call of `flywheel` in a shell block or in backticks, without comment, pipe and redirection."""
    for line in command_lines(page):
        if line.startswith("flywheel "):
            yield re.split(r"\s+[|>]", line.removeprefix("flywheel "))[0]


CALLS = [(page, call) for page in PAGES for call in _calls(page)]


@pytest.mark.parametrize(("page", "call"), CALLS, ids=[f"{page.stem}: {call[:40]}" for page, call in CALLS])
def test_every_command_line_parses(page: Path, call: str) -> None:
    """Commands, options and choices in the docs are those that the command has."""
    folders = {"DIR", "judged/", "general/", "new-model/", "live-model/"}
    arguments = [str(ROOT) if word in folders else word for word in shlex.split(call)]
    brought = ("corpus.jsonl", "history.jsonl", "done.json", "log.csv", "archive.csv")
    brought += ("events.parquet", "part-00000.gz")
    existing = dict.fromkeys(brought, "README.md")
    arguments = [str(ROOT / existing[word]) if word in existing else word for word in arguments]
    if call in COMMANDS:  # a command that is only named
        return
    command: click.Command = cli
    context = cli.make_context("flywheel", arguments)
    while isinstance(command, click.Group):
        name, command_found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command_found is not None, f"{page.name}: {call}"
        command = command_found
        context = command.make_context(name, list(rest), parent=context)


def test_every_command_stands_in_the_docs() -> None:
    """No command is left to be found by chance."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert [name for name in COMMANDS if not re.search(rf"flywheel (?:--home \S+ )?(?:\w+ \| )*{name}\b", text)] == []


def test_every_setting_named_exists() -> None:
    """`section.key` in backticks, and FLYWHEEL__SECTION__KEY, are keys of the settings."""
    known = {f"{name}.{key}" for name, section in config.sections() for key in section.model_fields}
    sections = "|".join(name for name, _ in config.sections())
    named = set()
    for page in [*PAGES, ROOT / "compose.yaml"]:
        text = page.read_text("utf-8")
        named |= set(re.findall(rf"`((?:{sections})\.[a-z_]+)(?: = [^`]+)?`", text))
        named |= {f"{a}.{b}".lower() for a, b in re.findall(r"FLYWHEEL__([A-Z]+)__([A-Z_]+)", text)} - {"section.key"}
    files = {"analytics.duckdb"}
    assert named
    assert named - known - files == set()


def test_the_environment_in_the_docs_is_taken(tmp_path: Path) -> None:
    """Each line of an `env` block sets a key to a value that the settings accept."""
    lines = [line for page in PAGES for block in blocks(page, "env") for line in block.splitlines()]
    assert lines
    for line in lines:
        name, _, value = line.partition("=")
        plain = config.load(tmp_path, {})
        assert config.load(tmp_path, {name: value}) != plain, line


def test_every_link_leads_somewhere() -> None:
    """No page sends its reader to a page that is not there, nor to a heading that is not on it."""
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_path_named_exists() -> None:
    """A file or folder in backticks, and every line of the tree of rooms, is where the page says."""
    packages = "|".join(("benchmarks", "consumers", "deploy", "docs", "flywheel", "scripts", "tests", "trainer"))
    named = {
        path
        for page in [*PAGES, ROOT / "CHANGELOG.md"]
        for path in re.findall(rf"`((?:{packages})/[\w./-]*)`", prose(page))
    }
    assert named
    (tree,) = [block for block in blocks(TREE, "") if "consumers/" in block]
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith("  ") else name
        named.add(folder + name if line.startswith("  ") else name)
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_first_page_is_read_to_its_end() -> None:
    """README has under 700 words, its picture included."""
    assert len((ROOT / "README.md").read_text("utf-8").split()) < MOST_WORDS


def test_every_page_is_in_its_index() -> None:
    """Whoever opens the folder finds every page from its index, and each decision has its four parts."""
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
    decisions = ROOT / "docs" / "decisions"
    listed = (decisions / "README.md").read_text("utf-8")
    pages = [page for page in decisions.glob("*.md") if page.name != "README.md"]
    assert pages
    for page in pages:
        assert f"({page.name})" in listed, page.name
        assert re.findall(r"^## (.*)$", page.read_text("utf-8"), re.MULTILINE) == HEADINGS, page.name


def test_every_source_named_is_named_in_the_code() -> None:
    """A paper on the page about the method stands in the docstring of what implements it, with its year."""
    code = [
        " ".join(path.read_text("utf-8").split())
        for package in ("flywheel", "consumers", "trainer")
        for path in (ROOT / package).rglob("*.py")
    ]
    text = " ".join((ROOT / "docs" / "how-it-works.md").read_text("utf-8").split())
    authors = (
        r"([A-ZÀ-Þ][\w-]+)(?:,? (?:[&]|and|et al\.|[A-ZÀ-Þ][\w-]+)|,)*,? (?:[A-Z]\w+ (?:B )?)?\(?((?:19|20)\d\d)\b"
    )
    named = set(re.findall(authors, text))
    assert len(named) > 30
    strangers = [
        f"{author} {year}"
        for author, year in sorted(named)
        if not any(re.search(rf"{author}[^\"]{{0,120}}{year}", file) for file in code)
    ]
    assert strangers == []


def test_code_sends_nobody_to_a_page_that_is_not_here() -> None:
    """A page that a docstring or comment names is in the repository, and none is called "the design"."""
    for package in ("flywheel", "consumers", "trainer", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text("utf-8")
            assert not re.search(r"\bdesign(?:'s)? (?:section|page|note)|\bdesign's\b", text), path
            for page in re.findall(r"\bdocs/[\w/-]+\.md\b|\b[A-Z]{4,}\.md\b", text):
                assert (ROOT / page).exists(), f"{path}: {page}"


def test_the_make_targets_named_exist() -> None:
    """`make X` in the docs is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        word
        for page in PAGES
        for call in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", page.read_text("utf-8"), re.MULTILINE)
        for word in call.split()
    }
    assert named
    assert named - targets == set()


@pytest.mark.parametrize("kind", ["query", "event", "document"])
def test_messages_in_the_docs_are_read(kind: str) -> None:
    """What product teams copy from the page is what the decoder takes, with every part where it belongs."""
    decoder = Decoder(config.Signals(), lambda identity: identity, max_bytes=1_000_000)
    messages = blocks(ROOT / "docs" / "product.md", f"json {kind}")
    assert messages
    for block in messages:
        sent = json.loads(block)
        record = getattr(decoder, kind)(block.encode())
        assert {"click", "dwell"} >= {str(record.kind)} if kind == "event" else True
        assert getattr(record, "doc_id", "copy.deepcopy") == "copy.deepcopy"
        assert getattr(record, "query_id", None) == sent.get("query_id")


def test_the_endpoints_named_exist() -> None:
    """Every `GET /…` and `POST /…` of the docs is a route of the API with that method."""
    source = (ROOT / "flywheel" / "serving" / "endpoints" / "app.py").read_text("utf-8")
    routes = set(re.findall(r'Route\("([^"]+)".*?methods=\["(\w+)"\]', source))
    for names, method in (("reads", "GET"), ("acts", "POST")):
        (listed,) = re.findall(rf"^    {names} = \((.*)\)$", source, re.MULTILINE)
        routes |= {(f"/v1/{name}", method) for name in re.findall(r'"(\w+)"', listed)}
    routes |= {(f"/v1/ops/{name}", "POST") for name in ALLOWED}
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = {(path, method) for method, path in re.findall(r"`(GET|POST) (/[\w/]+)", text)}
    assert named
    assert named - routes == set()


SQL = [sql for kind in ("sql", "sql recompute", "sql live") for sql in blocks(ROOT / "docs" / "analysts.md", kind)]
SQL += [shlex.split(call)[1] for _, call in CALLS if call.startswith("sql ") and "…" not in call]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("docs") / "flywheel.duckdb", memory_gb=1) as opened:
        opened.outcomes.record([PAIRED, SPLIT])
        yield opened


# Four queries, scored 0.1 0.5 0.2 0.4 by the champion and 0.3 0.6 0.2 0.7 by the challenger.
PAIRED = Outcome(
    "e1", "offline", "ndcg@10", "all", OutcomeSums(4, 4, 4, 1.2, 0.46, 1.2), OutcomeSums(4, 4, 4, 1.8, 0.98, 1.8),
    "inconclusive", ("few queries",), 0, cross_sum=0.65, effect=0.15, critical=2.0,
)  # fmt: skip
# Two users an arm: clicks 1, 3 on pages 2, 4, and clicks 2, 4 on pages 2, 6.
SPLIT = Outcome(
    "e2", "split", "ctr", "all", OutcomeSums(2, 6, 20, 4, 10, 14), OutcomeSums(2, 8, 40, 6, 20, 28),
    "inconclusive", ("few users",), 0, effect=6 / 8 - 4 / 6, critical=2.0,
)  # fmt: skip


@pytest.mark.parametrize("statement", SQL, ids=[" ".join(sql.split())[:50] for sql in SQL])
def test_every_statement_runs(store: Store, statement: str) -> None:
    """Tables and columns in the docs are those that there are, and the statement is one that analysts may send."""
    assert store.sql.query(statement).num_columns > 0


def test_the_recomputed_interval_is_that_of_the_textbook(store: Store) -> None:
    """The statement in the docs gives what the units themselves give."""
    (statement,) = blocks(ROOT / "docs" / "analysts.md", "sql recompute")
    paired, split = store.sql.query(statement).to_pylist()
    differences = [0.2, 0.1, 0.0, 0.3]
    mean = sum(differences) / 4
    error = (sum((d - mean) ** 2 for d in differences) / 3 / 4) ** 0.5
    assert (paired["effect"], paired["low"], paired["high"]) == pytest.approx(
        (mean, mean - 2 * error, mean + 2 * error)
    )
    squared = 0.0
    for clicks, pages in (((1, 3), (2, 4)), ((2, 4), (2, 6))):
        ratio = sum(clicks) / sum(pages)
        squared += 2 * sum((c - ratio * p) ** 2 for c, p in zip(clicks, pages, strict=True)) / sum(pages) ** 2
    assert split["standard_error"] == pytest.approx(squared**0.5)


def test_the_live_figures_recompute_with_what_was_before() -> None:
    """From a decision's sums alone, with CUPED and without, the statement in the docs gives the effect and the error
    that decided."""
    (statement,) = blocks(ROOT / "docs" / "analysts.md", "sql live")
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "flywheel.duckdb", memory_gb=1) as store:
        facts = []
        for number, cuped in enumerate((True, False)):
            rng = np.random.default_rng(number)
            arms = []
            for _ in range(2):
                own, pages = rng.beta(2, 6, 300), 1.0 + rng.poisson(5, 300)
                before = rng.binomial(20, own) - 5.0 if cuped else None
                arms.append(Sums.of(rng.binomial(pages.astype(int), own).astype(float), pages, before))
            decided = decide_live(LiveEvidence({"satisfied_ctr": (arms[0], arms[1])}), defaults.policy(), 0.02)
            facts.append(decided.evidence["primary"])
            row = Decision(f"d{number}", "inconclusive", None, "flywheel", 0, ("why",), evidence=decided.evidence)
            store.decisions.decide(row, states={})
        found = store.sql.query(statement).to_pylist()
    assert found[0]["theta"] != 0 == found[1]["theta"]
    for ours, theirs in zip(facts, found, strict=True):
        assert (ours["effect"], ours["standard_error"]) == pytest.approx((theirs["effect"], theirs["log_error"]))
