"""A verdict as SARIF 2.1.0 (OASIS), which code hosts show beside a change: one result for each check that fails."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flywheel.files.verdicts.report import Claim, Suite, VerdictReport

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "worse": "The model lost more than the margin on a judged collection.",
    "not-better": "The model is not better than the other one.",
    "undecided": "There are too few judged queries to tell, or the gain does not stand out of the noise.",
}


def sarif(report: VerdictReport) -> dict[str, Any]:
    """The log as a JSON object; a verdict that passes has no result."""
    results = [
        _result(report, suite, check) for suite in report.suites for check in suite.checks if check.outcome != "pass"
    ]
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in _RULES.items()]
    driver = {"name": "flywheel gate", "rules": rules}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(report: VerdictReport, suite: Suite, check: Claim) -> dict[str, Any]:
    first = suite is report.suites[0]
    rule = "undecided" if check.outcome == "undecided" else "not-better" if first else "worse"
    where = {"artifactLocation": {"uri": quote(report.subject)}}
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "level": "warning" if check.outcome == "undecided" else "error",
        "message": {"text": f"{suite.name}, {check.name}: {check.message}"},
        "locations": [{"physicalLocation": where}],
    }
