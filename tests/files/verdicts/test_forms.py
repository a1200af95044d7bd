"""The files that pipelines read follow their formats: JUnit by the usual schema, SARIF 2.1.0, plain Markdown."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from flywheel.files.verdicts.junit import junit
from flywheel.files.verdicts.markdown import markdown
from flywheel.files.verdicts.report import Claim, Suite, VerdictReport
from flywheel.files.verdicts.sarif import sarif

REPORT = VerdictReport(
    title="new | <b>",
    subject="models/my new",
    outcome="fail",
    headline="keep live & wait",
    reasons=("ndcg@10 < 0.6\nfell",),
    suites=(
        Suite("verdict", (Claim("better than live", "fail", 'no "gain" & \x00 noise'),)),
        Suite("a]]>b", (Claim("nothing lost in ndcg@10", "pass", "fine"), Claim("mrr@10", "undecided", "too few"))),
    ),
    columns=("collection", "ndcg@10"),
    rows=(("a|b", "0.5"),),
    seconds=1.25,
    now="2026-01-02T03:04:05",
)
_WHOLE = re.compile(r"\d+")


def test_junit_keeps_to_the_usual_schema() -> None:
    """Windyroad's JUnit.xsd: order of elements, required attributes, ids that count up, times without a zone."""
    root = ET.fromstring(junit(REPORT))
    assert root.tag == "testsuites"
    for number, suite in enumerate(root):
        tags = [child.tag for child in suite]
        cases = tags.count("testcase")
        assert tags == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert set(suite.attrib) == {
            "id", "package", "name", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"
        }  # fmt: skip
        assert all(_WHOLE.fullmatch(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped", "id"))
        assert suite.get("id") == str(number)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert int(suite.attrib["tests"]) == cases
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"classname", "name", "time"}
            assert len(case) <= 1
            assert all(set(child.attrib) == {"type", "message"} for child in case if child.tag == "failure")
    counts = [(suite.get("failures"), suite.get("skipped")) for suite in root]
    assert counts == [("1", "0"), ("0", "1")]


def test_what_xml_cannot_hold_is_replaced() -> None:
    """Control characters of a name do not make the file unreadable."""
    message = ET.fromstring(junit(REPORT)).find(".//failure").get("message")  # type: ignore[union-attr]
    assert message == 'no "gain" & � noise'


def test_sarif_names_rule_level_and_place_of_what_fails() -> None:
    """SARIF 2.1.0 §3: version, a tool with its rules, results that point into them, a URI for each place."""
    log = sarif(REPORT)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("not-better", "error"),
        ("undecided", "warning"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "models/my%20new"


def test_markdown_stays_a_table_and_holds_no_html() -> None:
    """Bars, tags and line breaks of names and reasons do not break the page."""
    lines = markdown(REPORT).splitlines()
    assert lines[0] == "## new \\| &lt;b>: ❌ not better"
    assert "| a\\|b | 0.5 |" in lines
    assert "- ndcg@10 &lt; 0.6 fell" in lines
