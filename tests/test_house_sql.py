"""SQL has one home: whoever looks for what a table is asked, or renames a column, looks into the store alone."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flywheel", "consumers", "trainer")
HOME = ROOT / "flywheel" / "store"

_NAME = r'[\w."$]+'
# How a statement begins. A call of the command line that holds one begins with the command's name, and a sentence that
# begins with such a word lacks its second one. A question needs its table; one without a table asks nothing of ours.
_BEGINS = re.compile(
    rf"""
    select\b.*\bfrom\s+[\w("$] | from\s+{_NAME}\s+(?:select|where|group\s+by|order\s+by|limit|semi|anti|join)\b
    | with\s+(?:recursive\s+)?{_NAME}\s*(?:\([^)]*\)\s*)?as\s+(?:(?:not\s+)?materialized\s+)?\(
    | insert\s+(?:or\s+\w+\s+)?into\b | update\s+{_NAME}(?:\s+(?:as\s+)?\w+)?\s+set\b | delete\s+from\b
    | merge\s+into\b | truncate\s+(?:table\s+)?{_NAME}\s*;?\s*$ | copy\s+(?:{_NAME}|\(.*\))\s+(?:to|from)\b
    | (?:create|drop|alter)\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?
      (?:table|view|macro|function|index|sequence|schema|type)\b
    | (?:describe|summarize|pragma|attach|explain)\s+(?:select\b|table\b|database\b|{_NAME}\s*;?\s*$|')
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def statements(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that begins as a SQL statement; texts that only document do not count.

    A string that is put together (f-strings, `+`) is read as a whole, with a word in place of what it is filled with.
    """
    tree = ast.parse(source)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        text = None if id(node) in silent else _text(node)
        # the pieces of a string that was read as a whole are not read again; what it is filled with is
        pending.extend(part for part in ast.iter_child_nodes(node) if text is None or _text(part) is None)
        if text is not None and _BEGINS.match(_COMMENTS.sub(" ", text).lstrip(" \t\n(;")):
            yield getattr(node, "lineno", 0), " ".join(text.split())


def _text(node: ast.AST) -> str | None:
    """What a string, an f-string or a sum of such says; None for all else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or " hole " for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None and right is None else f"{left or ' hole '}{right or ' hole '}"
    return None


def test_no_sql_statement_stands_outside_the_store() -> None:
    """Product code asks the store's functions, or takes the text of its statements from there."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text[:60]}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.is_relative_to(HOME)
        for line, text in statements(path.read_text("utf-8"))
    ]
    assert found == []


def test_no_sql_file_lies_outside_the_store() -> None:
    """Nor is there a script elsewhere."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.sql"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    assert listed
    assert [name for name in listed if not (ROOT / name).is_relative_to(HOME)] == []


def test_the_rule_knows_the_statements_of_the_store() -> None:
    """Where SQL belongs it is seen: the rule has something to find in every module that runs any."""
    asking = [
        path for path in sorted(HOME.rglob("*.py")) if re.search(r"\bcon\.(execute|sql)\(", path.read_text("utf-8"))
    ]
    assert len(asking) > 10
    assert [path.name for path in asking if not list(statements(path.read_text("utf-8")))] == []


@pytest.mark.parametrize(
    "source",
    [
        'QUESTION = "SELECT count(*) FROM queries"',
        'QUESTION = """\n  -- how many\n  with a as (select 1) select * from a"""',
        'QUESTION = f"select {columns} from {table} where x"',
        'QUESTION = "select a, " + columns + " from queries"',
        'ask("select x " "from queries")',
        'ask("INSERT INTO state VALUES (?, ?)")',
        'ask("INSERT OR REPLACE INTO state VALUES (?, ?)")',
        "ask(f\"UPDATE {table} SET state = 'retired'\")",
        'ask("delete from aliases where alias = ?")',
        'ask("CREATE OR REPLACE TEMP TABLE a AS SELECT 1")',
        'ask("drop view impressions")',
        'ask("FROM queries WHERE ts > 0")',
        'ask("(select a from b) union all select 1")',
        "ask(\"COPY queries TO 'file'\")",
        'ask("describe queries")',
        'def f(): return {"q": ["select a from b"]}',
        """say(f"{ask('select a from b')} rows")""",
    ],
)
def test_a_statement_is_seen(source: str) -> None:
    """However it is written, put together or passed on."""
    assert len(list(statements(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Select one row from each."""',
        'def f():\n    """Select documents from the index."""\n    return 1',
        'X = 1\n"""What select x from y would say."""',
        "EXAMPLES = ('flywheel sql \"select version, alias from models\"',)",
        'say("create a home with `flywheel init`")',
        'say("update the settings, then set promotion.auto")',
        'say("with a daemon as (one) process")',
        'say("from the first page on")',
        'say("drop it")',
        'say("delete the file, or take another")',
        'say("select a model")',
        "# select a from b\nX = 1",
        "ask(SPENT)",
    ],
)
def test_what_is_no_statement_is_left_alone(source: str) -> None:
    """Documentation, calls of the command line, and sentences that begin with a word of SQL."""
    assert list(statements(source)) == []
